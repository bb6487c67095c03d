"""KL divergence of posteriors to their priors, with warm-up and free bits."""

from typing import Annotated, cast

import torch
from pydantic import Field

from fusion_engine import Clock, Graph, Loss, Player, Posterior, Run, Term, nodes_of


class KL(Loss):
    """Sum over posteriors of sum_k weight[k] KL(q_k(z given x) || p(z)).

    Args:
        beta: its weight (Higgins et al., ICLR 2017), reached after ``warmup_steps`` along a straight line from 0
            (Bowman et al., 2016, arXiv:1511.06349).
        free_bits: nats per row and latent element below which there is no pressure (Kingma et al., 2016,
            arXiv:1606.04934, eq. 15; taken row by row, not of the batch mean, so that ranks and accumulation agree).
        nodes: which posteriors (globs).
    """

    def __init__(
        self,
        graph: Graph,
        *,
        beta: Annotated[float, Field(ge=0)] = 1.0,
        warmup_steps: Annotated[int, Field(ge=0)] = 0,
        free_bits: Annotated[float, Field(ge=0)] = 0.0,
        nodes: list[str] | None = None,
    ) -> None:
        super().__init__(graph, ["generator"], beta)
        self.posteriors = nodes_of(graph, "posterior", nodes or ["*"], "'nodes'")
        self.warmup_steps, self.free_bits = warmup_steps, free_bits

    def scale(self, clock: Clock) -> float:
        """Beta, warmed up."""
        share = min(1.0, clock.step / self.warmup_steps) if self.warmup_steps else 1.0
        return self.weight * share

    def forward(self, run: Run, player: Player) -> Term:
        """Add up the posteriors over the rows that have anything."""
        rows = run.anything()
        total = torch.zeros((), device=rows.device)
        for name in self.posteriors:
            posterior = cast(Posterior, run[name])
            weights = posterior.weights[..., None]
            elements = torch.where(weights > 0, weights * posterior.kl_elements(), 0.0)
            elements = (elements.flatten(0, -3).sum(0) if elements.ndim > 2 else elements)[rows]
            total = total + (elements.clamp(min=self.free_bits) if self.free_bits else elements).sum()
        return Term(total, rows.sum())
