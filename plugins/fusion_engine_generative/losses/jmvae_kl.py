"""The term that brings single-input experts to the joint, of the JMVAE-kl: Suzuki et al. 2016, arXiv:1611.01891."""

from dataclasses import replace
from typing import Annotated

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor

from fusion_engine import Graph, Loss, Player, Run, Term, map_distribution
from fusion_engine_generative.losses.divergences import Experts, to_experts


class JMVAEKL(Loss):
    """Sum over posteriors of how far the joint is from each expert, in rows that have every input.

        row = alpha sum_i KL(q(z | x) || q(z | x_i))

    Beside ``loss/reconstruction`` (``balance: false``) and ``loss/kl`` with ``posterior/jmvae`` it is the paper's
    objective. A row that misses an input has no joint, and adds nothing; the mean is over rows with anything, as that
    of the other two terms, so that the three are one objective a row.

    With ``detach`` the joint is a target and nothing more: the experts and the encoders below them learn what it
    infers, and it is not drawn towards what one input can tell, so that alpha may be large. A JNF (arXiv:2502.03952)
    reaches the same by training the joint first and the experts after it.
    Axes: b batch, z latent, m inputs.

    Args:
        alpha: its weight; the paper finds 0.1 to serve reconstruction and translation.
        detach: whether the joint is left as it is.
        nodes: which posteriors (globs); by default all that have experts.

    Raises:
        BuildError: none has, or one that is named has not.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        alpha: Annotated[float, Field(ge=0)] = 0.1,
        detach: bool = False,
        nodes: list[str] | None = None,
    ) -> None:
        super().__init__(graph, ["generator"], alpha)
        self.detach = detach
        self.experts = Experts(graph, nodes, "jmvae_kl")

    def forward(self, run: Run, player: Player) -> Term:
        """Add up the posteriors over the rows that have every input."""
        rows = run.anything()
        total = torch.zeros(len(run.batch), device=rows.device)
        for posterior, experts, present in self.experts.of(run):
            whole = rearrange(present.all(1), "b -> 1 b").expand(present.shape[1], -1)
            if self.detach:
                fixed = map_distribution(posterior.distribution, Tensor.detach)
                posterior = replace(posterior, distribution=fixed)
            total = total + to_experts(posterior, experts, whole.to(experts.loc.dtype))
        return Term.of(total, rows)
