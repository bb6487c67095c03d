"""The total-correlation term of the MVTCAE: Hwang et al., NeurIPS 2021."""

from typing import Annotated

import torch
from einops import rearrange
from pydantic import Field

from fusion_engine import Graph, Loss, Player, Run, Term
from fusion_engine_generative.losses.divergences import Experts, to_experts
from fusion_engine_generative.posteriors.experts import shares


class TotalCorrelation(Loss):
    """Sum over posteriors of the mean over present inputs of how far the joint is from what each would say alone.

        row = mean over present i of KL(q(z | x) || q(z | x_i))

    The paper maximises (m - a) / m E log p(x | z) - beta [(1 - a) KL(q || p) + a / m sum_i KL(q || q_i)] with
    q = ``posterior/poe``. Its three terms, for m inputs::

        reconstruction: {use: loss/reconstruction,    with: {weight: (m - a) / m, balance: false}}
        kl:             {use: loss/kl,                with: {beta: beta * (1 - a)}}
        correlation:    {use: loss/total_correlation, with: {alpha: a, beta: beta}}

    A missing input leaves the mean, which is then over those that are there; a row with nothing present adds nothing.
    Axes: b batch, z latent, m inputs, k components (weighed where a posterior has such).

    Args:
        alpha: a, the share of this term; 0.9 asks for much agreement (the paper: 5/6 for five inputs).
        beta: the paper's weight of both divergences; here it multiplies ``alpha``.
        nodes: which posteriors (globs); by default all that have experts.

    Raises:
        BuildError: none has, or one that is named has not.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        alpha: Annotated[float, Field(ge=0, le=1)] = 0.5,
        beta: Annotated[float, Field(ge=0)] = 1.0,
        nodes: list[str] | None = None,
    ) -> None:
        super().__init__(graph, ["generator"], alpha * beta)
        self.experts = Experts(graph, nodes, "total_correlation")

    def forward(self, run: Run, player: Player) -> Term:
        """Add up the posteriors over the rows that have anything."""
        rows = run.anything()
        total = torch.zeros(len(run.batch), device=rows.device)
        for posterior, experts, present in self.experts.of(run):
            weights = shares(rearrange(present, "b m -> m b"), experts.loc).nan_to_num()
            total = total + to_experts(posterior, experts, weights)
        return Term.of(total, rows)
