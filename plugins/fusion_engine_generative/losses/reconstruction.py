"""Negative log-likelihood of what is present, given its own latents."""

from collections.abc import Iterable, Mapping
from typing import Annotated, cast

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusion_engine import BuildError, Decoder, Graph, Loss, Player, Run, Term, check_modalities, nodes_of


def decoder_of(graph: Graph, name: str) -> Decoder:
    """The module of a decoder node."""
    return cast(Decoder, graph[name])


def check_decoders(graph: Graph, names: Iterable[str]) -> None:
    """Check that the likelihood of data under each decoder says something.

    Raises:
        BuildError: one starts from noise alone, or has no density.
    """
    for name in names:
        if graph.wiring.ancestors(name).isdisjoint(graph.modalities):
            raise BuildError(
                f"the generator {name!r} starts from noise alone, so it reconstructs nothing",
                actual=f"above it: {', '.join(sorted(graph.wiring.ancestors(name)))}",
                fix="use an adversarial loss, or leave it out with 'nodes'",
            )
        if not decoder_of(graph, name).density:
            raise BuildError(
                f"the generator {name!r} has no density, so nothing can be reconstructed with it",
                fix="use an adversarial or feature-matching loss, or leave it out with 'nodes'",
            )


def decoder_scales(graph: Graph, names: Iterable[str], weights: Mapping[str, float], balance: bool) -> dict[str, float]:
    """Return w_m D / d_m by decoder, or w_m without ``balance``: what its log-likelihood is multiplied by.

    Raises:
        BuildError: a weight is of no modality.
    """
    check_modalities(graph, weights, "'weights'")
    sizes = {name: decoder_of(graph, name).modality.size for name in names}
    factors = {name: max(sizes.values()) / size if balance else 1.0 for name, size in sizes.items()}
    return {n: f * weights.get(str(graph.wiring.nodes[n].out), 1.0) for n, f in factors.items()}


class Reconstruction(Loss):
    """Sum over modalities of -w_m log p(x_m given z), each balanced by its number of dimensions.

        row = - sum_m w_m (D / d_m) sum_k weight[k] log p(x_m given z_k)

    d_m is the size of one sample of modality m and D the largest of them, so that a small modality is heard beside a
    large one (Sutter et al., ICLR 2021, arXiv:2105.02470). Modalities that a row lacks are left out of its sum.

    Args:
        weights: w_m by modality, 1 where not named.
        balance: whether to apply D / d_m.
        nodes: which decoders (globs).
    """

    def __init__(
        self,
        graph: Graph,
        *,
        weight: Annotated[float, Field(ge=0)] = 1.0,
        weights: dict[str, Annotated[float, Field(ge=0)]] | None = None,
        balance: bool = True,
        nodes: list[str] | None = None,
    ) -> None:
        super().__init__(graph, ["generator"], weight)
        self.decoders = nodes_of(graph, "decoder", nodes or ["*"], "'nodes'")
        check_decoders(graph, self.decoders)
        self.scales = decoder_scales(graph, self.decoders, weights or {}, balance)

    def forward(self, run: Run, player: Player) -> Term:
        """Add up the modalities; rows without any count as zero."""
        rows = run.anything()
        total = torch.zeros((), device=rows.device)
        for decoder in self.decoders:
            total = total - self.scales[decoder] * self._expected(run, decoder)
        return Term(total, rows.sum())

    def _expected(self, run: Run, decoder: str) -> Float[Tensor, ""]:
        likelihood, present = run.likelihood(decoder)
        if likelihood is None:
            return torch.zeros((), device=present.device)
        signal, weights = run.batch.signals[str(run.wiring.nodes[decoder].out)], run.weights(decoder)
        if not present.all():
            signal, weights = signal.take(present), weights[..., present]
        log_prob = likelihood.log_prob(signal)
        return torch.where(weights > 0, weights * log_prob, 0.0).sum()
