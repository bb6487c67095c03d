"""Jensen-Shannon divergence of experts and prior, the mmJSD: Sutter et al. 2020, arXiv:2006.08242."""

from typing import Annotated

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor
from torch.distributions import Normal

from fusion_engine import BuildError, Clock, Graph, Loss, Player, Posterior, Run, Term
from fusion_engine_generative.losses.divergences import Experts, divergence
from fusion_engine_generative.posteriors.experts import weighted_product, with_prior


class JensenShannon(Loss):
    """Sum over posteriors of the divergence of their experts and prior from the dynamic prior f between them.

        row = sum over present i of s KL(q(z | x_i) || f) + s KL(p || f)
        f = p^s prod over present i of q(z | x_i)^s / normaliser,  s = 1 / (1 + number present)

    It takes the place of ``loss/kl`` beside ``loss/reconstruction``, with ``posterior/moe``. A missing input leaves
    both the sum and f; a row with nothing present has f = p and no divergence.
    Axes: b batch, z latent, m inputs, e experts (the inputs and, last, the prior).

    Args:
        beta: its weight, reached after ``warmup_steps`` along a straight line from 0.
        warmup_steps: see ``beta``.
        nodes: which posteriors (globs); by default all that have experts.

    Raises:
        BuildError: none has, or one that is named has not; or its prior is no Normal.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        beta: Annotated[float, Field(ge=0)] = 1.0,
        warmup_steps: Annotated[int, Field(ge=0)] = 0,
        nodes: list[str] | None = None,
    ) -> None:
        super().__init__(graph, ["generator"], beta)
        self.warmup_steps, self.experts = warmup_steps, Experts(graph, nodes, "jensen_shannon")

    def scale(self, clock: Clock) -> float:
        """Beta, warmed up."""
        return self.weight * (min(1.0, clock.step / self.warmup_steps) if self.warmup_steps else 1.0)

    def forward(self, run: Run, player: Player) -> Term:
        """Add up the posteriors over the rows that have anything."""
        rows = run.anything()
        total = torch.zeros(len(run.batch), device=rows.device)
        for posterior, experts, present in self.experts.of(run):
            total = total + _row(posterior, experts, present)
        return Term.of(total, rows)


def _row(posterior: Posterior, experts: Normal, present: Bool[Tensor, "b m"]) -> Float[Tensor, " b"]:
    if not isinstance(posterior.prior, Normal):
        raise BuildError(
            "the geometric mean with this prior is not known",
            where="loss/jensen_shannon",
            expected="a Normal",
            actual=type(posterior.prior).__name__,
            fix="leave the posterior its own prior, or use loss/kl",
        )
    loc, scale = (x.expand(experts.loc.shape[1:]) for x in (posterior.prior.loc, posterior.prior.scale))
    everything = with_prior(experts, Normal(loc, scale, validate_args=False))
    held = torch.cat([present, torch.ones_like(present[:, :1])], 1)
    shares = rearrange(held, "b e -> e b") / held.sum(1).to(experts.loc.dtype)
    between = weighted_product(everything, rearrange(shares, "e b -> e b 1"))
    return divergence(everything, between, shares)
