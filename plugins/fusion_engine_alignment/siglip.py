"""Sigmoid loss for language-image pre-training (SigLIP): Zhai et al., ICCV 2023, arXiv:2303.15343."""

import math
from typing import Annotated

import torch
from einops import einsum
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from fusion_engine import Graph
from fusion_engine_alignment.alignment import Alignment, unit


class SigLIPLoss(Alignment):
    """Decide of every two rows of a micro-batch, one a node, whether they belong together.

        row i = sum_j -log sigmoid(z_ij (t x_i . y_j / (|x_i| |y_j|) + c)),  z_ii = 1, else -1
        averaged over the pairs of nodes that row i has

    t (as its logarithm) and c are learned. A row that lacks one of a pair is neither positive nor negative in it.
    Negatives are the other rows of one micro-batch on one rank: ``train.accumulate`` and more ranks do not add to them.
    Axes: i and j rows that have both of a pair.

    Args:
        nodes: two or more (globs) of one width: encoders, fusions, posteriors or heads; see ``fusion/projection``.
        sharpness: t at the start.
        bias: c at the start: negative, as most pairs of rows do not belong together.
        weight: of the term.

    Raises:
        BuildError: fewer than two nodes, or nodes of different widths.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        nodes: Annotated[list[str], Field(min_length=1)],
        sharpness: Annotated[float, Field(gt=0)] = 10.0,
        bias: float = -10.0,
        weight: Annotated[float, Field(ge=0)] = 1.0,
    ) -> None:
        super().__init__(graph, nodes, weight)
        self.check_widths()
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(sharpness)))
        self.bias = nn.Parameter(torch.tensor(bias))

    def least(self, a: str, b: str) -> int:
        """One: it is a positive by itself."""
        return 1

    def compare(self, x: Float[Tensor, "r d"], y: Float[Tensor, "r d"]) -> Float[Tensor, " r"]:
        """Add up each row's decisions."""
        logits = self.log_sharpness.exp() * einsum(unit(x), unit(y), "i d, j d -> i j") + self.bias
        signs = 1 - 2 * torch.eye(len(x), device=x.device, dtype=x.dtype)
        return softplus(signs * logits).sum(1)
