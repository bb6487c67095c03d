"""KL with a capacity that grows: Burgess et al., 2018, arXiv:1804.03599, equation 8."""

from typing import Annotated, cast

import torch
from pydantic import Field

from fusion_engine import Clock, Graph, Loss, Player, Posterior, Run, Term, nodes_of


class CapacityKL(Loss):
    """How far the latents' information is from a capacity, which rises along a straight line over training.

        row = gamma |sum_p sum_k weight_p[k] KL(q_pk(z given x) || p_p(z)) - C(t)|
        C(t) = capacity min(1, t / steps)

    The KL is of all latents of a row together, p over posteriors, k over components; the distance is taken row by row,
    so that ranks and accumulation agree. A missing input changes the row's posterior alone; rows with nothing do not
    count.

    Args:
        gamma: weight of the distance (the paper: 1000, beside a sum over pixels).
        capacity: C in the end, in nats (the paper: 25).
        capacity_steps: optimizer steps until then (the paper: 100000); 0 for the whole capacity from the start.
        nodes: which posteriors (globs).
    """

    def __init__(
        self,
        graph: Graph,
        *,
        gamma: Annotated[float, Field(ge=0)] = 100.0,
        capacity: Annotated[float, Field(ge=0)] = 25.0,
        capacity_steps: Annotated[int, Field(ge=0)] = 2000,
        nodes: list[str] | None = None,
    ) -> None:
        super().__init__(graph, ["generator"], gamma)
        self.posteriors = nodes_of(graph, "posterior", nodes or ["*"], "'nodes'")
        self.capacity, self.steps = capacity, capacity_steps

    def wanted(self, clock: Clock) -> float:
        """C at this moment, in nats."""
        return self.capacity * (min(1.0, clock.step / self.steps) if self.steps else 1.0)

    def forward(self, run: Run, player: Player) -> Term:
        """Take the distance of each row's KL from the capacity."""
        rows = run.anything()
        nats = torch.zeros(len(rows), device=rows.device)
        for name in self.posteriors:
            posterior = cast(Posterior, run[name])
            weighed = torch.where(posterior.weights > 0, posterior.weights * posterior.kl(), 0.0)
            nats = nats + weighed.flatten(0, -2).sum(0) if weighed.ndim > 1 else nats + weighed
        return Term.of((nats - self.wanted(run.clock)).abs(), rows, nats=nats)
