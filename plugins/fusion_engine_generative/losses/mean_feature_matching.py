"""Feature matching of means: Salimans et al., 2016, arXiv:1606.03498, section 3.1; in C-RNN-GAN, arXiv:1611.09904."""

from typing import Annotated

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusion_engine import BuildError, Features, Graph, Loss, Player, Rows, Run, Term, match


class MeanFeatureMatching(Loss):
    """Bring the mean of a discriminator's features of draws from the prior to that of real data.

        cost = sum over layers l of ||E f_l(x) - E f_l(G(z))||^2,  E over a micro-batch's rows that have what l reads

    Divided by the layer's width where ``mean`` is set. Unlike ``loss/feature_matching`` it needs no reconstruction. It
    is a statistic of the batch: every row carries the same cost, and halves of a batch do not add up to the whole. The
    generator alone receives it. A row that lacks what a layer reads stands outside of that layer's means.

    Args:
        score: the head whose discriminator is read.
        weight: of the term.
        nodes: the layers: encoders or fusions of that discriminator (globs); default its encoders.
        mean: average over the width instead of summing.

    Raises:
        BuildError: the discriminator has no encoder.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        score: str,
        weight: Annotated[float, Field(ge=0)] = 1.0,
        nodes: list[str] | None = None,
        mean: bool = True,
    ) -> None:
        super().__init__(graph, ["generator"], weight)
        wiring = graph.wiring
        trunk = [n for n in wiring.order if n in wiring.trunk(score) and wiring.kind(n) != "head"]
        encoders = {n for n in trunk if wiring.kind(n) == "encoder"}
        layers = match(nodes, trunk, "'nodes'", "node of the discriminator") if nodes else encoders
        self.layers, self.mean, self.score = tuple(n for n in trunk if n in layers), mean, score
        if not self.layers:
            raise BuildError(f"the discriminator of {score!r} has no encoder to read", fix="name layers with 'nodes'")

    def rows(self, run: Run, player: Player) -> Rows:
        """The rows that have anything the discriminator looks at."""
        return run.present(self.score)

    def forward(self, run: Run, player: Player) -> Term:
        """Add up the layers; each row carries the whole."""
        rows = self.rows(run, player)
        real, fake = run.real(), run.fake("prior", detach=False)
        cost = torch.zeros((), device=rows.device)
        for layer in self.layers:
            cost = cost + self._distance(real.features(layer), fake.features(layer), run.present(layer))
        return Term.of(cost.expand(len(rows)), rows)

    def _distance(self, real: Features, fake: Features, rows: Rows) -> Float[Tensor, ""]:
        target, made = (_mean(x, rows) for x in (real.pooled.detach(), fake.pooled))
        squared = (target - made).pow(2)
        return squared.mean() if self.mean else squared.sum()


def _mean(x: Float[Tensor, "b d"], rows: Rows) -> Float[Tensor, " d"]:
    return x.masked_fill(rearrange(~rows, "b -> b 1"), 0.0).sum(0) / rows.sum().clamp(min=1)
