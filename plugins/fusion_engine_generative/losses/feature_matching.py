"""Learned similarity: a discriminator's features of a reconstruction against those of the original."""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusion_engine import BuildError, Features, Graph, Loss, Player, Rows, Run, Term, match


class FeatureMatching(Loss):
    """1/2 ||D_l(x) - D_l(x~)||^2, x~ decoded from the posterior's z, with gradients to encoder and decoder alike.

    The mean over the layer's width is taken instead of the sum where ``mean`` is set. The discriminator itself never
    learns from it (Larsen et al., ICML 2016, eq. 7 and 8, arXiv:1512.09300).

    Args:
        score: the head whose discriminator is read.
        nodes: the layers: encoders or fusions of that discriminator (globs); default its encoders.
        mean: average over the width instead of summing.
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
        trunk = [n for n in graph.wiring.order if n in graph.wiring.trunk(score) and graph.wiring.kind(n) != "head"]
        layers = (
            match(nodes, trunk, "'nodes'", "node of the discriminator")
            if nodes
            else {n for n in trunk if graph.wiring.kind(n) == "encoder"}
        )
        self.layers, self.mean, self.score = tuple(n for n in trunk if n in layers), mean, score
        if not graph.wiring.of_kind("posterior"):
            raise BuildError(
                "there is no posterior, so nothing is reconstructed whose features could match",
                fix="add a posterior, or remove the loss",
            )
        if not self.layers:
            raise BuildError(f"the discriminator of {score!r} has no encoder to read", fix="name layers with 'nodes'")

    def rows(self, run: Run, player: Player) -> Rows:
        """The rows that have anything the discriminator looks at."""
        return run.present(self.score)

    def forward(self, run: Run, player: Player) -> Term:
        """Add up the layers, each over the rows that have it."""
        real, fake = run.real(), run.fake("reconstruction", detach=False)
        cost = torch.zeros(len(run.batch), device=run.present(self.score).device)
        for layer in self.layers:
            cost = cost + self._distance(real.features(layer), fake.features(layer)).masked_fill(
                ~run.present(layer), 0.0
            )
        return Term.of(cost, self.rows(run, player))

    def _distance(self, real: Features, fake: Features) -> Float[Tensor, " b"]:
        squared = (real.pooled.detach() - fake.pooled).pow(2) / 2
        return squared.mean(-1) if self.mean else squared.sum(-1)
