"""Sum and mean of projected inputs; as a baseline of multimodal fusion, Baltrusaitis et al. 2017, arXiv:1705.09406."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Features, Fusion, Widths


class AdditiveFusion(Fusion):
    """Shared by sum and mean: one Linear an input, and the mean of what they give over the present inputs.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike.
    """

    def __init__(self, inputs: Mapping[str, Widths], *, width: Annotated[int, Field(ge=1)] = 128) -> None:
        super().__init__(inputs, width)
        self.linears = nn.ModuleList(nn.Linear(w.pooled, width) for w in inputs.values())

    def mean(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b d"]:
        """Average linear_i(x_i), its bias included, over the present inputs; zeros where there are none."""
        pairs = zip(self.linears, self.pooled(features, present), strict=True)
        projected = torch.stack([linear(x) for linear, x in pairs], 1)
        total = projected.masked_fill(~present[..., None], 0.0).sum(1)
        return total / present.sum(1, keepdim=True).clamp(min=1)


class SumFusion(AdditiveFusion):
    """Add the projected inputs up.

        fused = m / |present| * sum_{i present} linear_i(x_i)

    A missing input adds nothing, and the sum of the others is scaled up to m inputs, so that a row's scale does not
    fall with what it lacks; a row with nothing present gives zeros.
    Axes: b batch, m inputs, d width.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike.
    """

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present gives zeros."""
        return Features.of_pooled(len(self.inputs) * self.mean(features, present))


class MeanFusion(AdditiveFusion):
    """Average the projected inputs.

        fused = 1 / |present| * sum_{i present} linear_i(x_i)

    A missing input leaves the average; a row with nothing present gives zeros.
    Axes: b batch, m inputs, d width.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike.
    """

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present gives zeros."""
        return Features.of_pooled(self.mean(features, present))
