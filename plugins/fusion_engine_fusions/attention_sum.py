"""Modality attention: Hori et al. 2017, arXiv:1701.03126, with the score of Bahdanau et al. 2015, arXiv:1409.0473."""

from collections.abc import Mapping
from typing import Annotated

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Features, Fusion, Widths


class AttentionSumFusion(Fusion):
    """Weigh whole inputs against each other, row by row, and add them up.

        h_i = linear_i(x_i),  score_i = v^T tanh(W h_i + b),  fused = sum_i softmax(score)_i h_i

    A missing input is left out of the softmax, so that the weights of the present ones sum to one; a row with nothing
    present gives zeros. With a single input its weight is 1 and the score has nothing to learn.
    Axes: b batch, m inputs, d width.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike.
        hidden: the width of the score's tanh layer; that of the output where it is not given.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        width: Annotated[int, Field(ge=1)] = 128,
        hidden: Annotated[int, Field(ge=1)] | None = None,
    ) -> None:
        super().__init__(inputs, width)
        self.linears = nn.ModuleList(nn.Linear(w.pooled, width) for w in inputs.values())
        hidden = hidden or width
        self.score = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present gives zeros."""
        pairs = zip(self.linears, self.pooled(features, present), strict=True)
        hidden = torch.stack([linear(x) for linear, x in pairs], 1)
        return Features.of_pooled(einsum(self.weights(hidden, present), hidden, "b m, b m d -> b d"))

    def weights(self, hidden: Float[Tensor, "b m d"], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b m"]:
        """Give each input its share: they sum to one over the present inputs, and absent ones have zero."""
        scores = rearrange(self.score(hidden), "b m 1 -> b m")
        lowest = torch.finfo(scores.dtype).min  # not -inf: a row with nothing present would be NaN
        shares: Tensor = scores.masked_fill(~present, lowest).softmax(1)
        return shares.masked_fill(~present, 0.0)
