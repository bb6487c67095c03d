"""Contrastive language-image pre-training (CLIP): Radford et al., ICML 2021, arXiv:2103.00020."""

import math
from typing import Annotated

import torch
from einops import einsum
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Graph
from fusion_engine_alignment.alignment import Alignment, unit

SHARPEST = 100.0
"""What 1 / temperature never exceeds: section 2.5 of the paper."""


class CLIPLoss(Alignment):
    """Symmetric InfoNCE: tell which row of one node belongs to a row of another, among the rows of a micro-batch.

        s_ij = x_i . y_j / (|x_i| |y_j| t)
        row i = -1/2 (log softmax_j(s_ij)[i] + log softmax_j(s_ji)[i]), averaged over the pairs of nodes it has

    t is learned, as log 1/t, and 1/t is kept at 100 or less. A row that lacks one of a pair is neither positive nor
    negative in it; a pair with a single row has nothing to be told apart from and does not count. Negatives are the
    other rows of one micro-batch on one rank: ``train.accumulate`` and more ranks do not add to them.
    Axes: i and j rows that have both of a pair.

    Args:
        nodes: two or more (globs) of one width: encoders, fusions, posteriors or heads; see ``fusion/projection``.
        temperature: t at the start.
        weight: of the term.

    Raises:
        BuildError: fewer than two nodes, or nodes of different widths.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        nodes: Annotated[list[str], Field(min_length=1)],
        temperature: Annotated[float, Field(ge=0.01)] = 0.07,
        weight: Annotated[float, Field(ge=0)] = 1.0,
    ) -> None:
        super().__init__(graph, nodes, weight)
        self.check_widths()
        self.log_sharpness = nn.Parameter(torch.tensor(-math.log(temperature)))

    def least(self, a: str, b: str) -> int:
        """Two: one row alone is told apart from nothing."""
        return 2

    def compare(self, x: Float[Tensor, "r d"], y: Float[Tensor, "r d"]) -> Float[Tensor, " r"]:
        """Return the cross entropy of each row in both directions, halved."""
        with torch.no_grad():  # of the parameter itself, or its gradient would vanish at the limit
            self.log_sharpness.clamp_(max=math.log(SHARPEST))
        logits = self.log_sharpness.exp() * einsum(unit(x), unit(y), "i d, j d -> i j")
        return (logits.logsumexp(0) + logits.logsumexp(1)) / 2 - logits.diagonal()
