"""Multimodal low-rank bilinear pooling (MLB): Kim et al., ICLR 2017, arXiv:1610.04325."""

from collections.abc import Mapping
from typing import Annotated

from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Features, Fusion, Widths
from fusion_engine_fusions.bilinear import TANH_GAIN, hadamard, projection


class MLBFusion(Fusion):
    """Multiply squashed projections of the inputs, elementwise.

        fused = P prod_i tanh(U_i x_i + a_i) + c

    The paper has two inputs; the product runs over any number. Missing: the factor of an absent input is 1.
    Axes: b batch, m inputs, d width.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike.
        inner: the width of the product, the rank of the bilinear form.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        width: Annotated[int, Field(ge=1)] = 128,
        inner: Annotated[int, Field(ge=1)] = 256,
    ) -> None:
        super().__init__(inputs, width)
        self.projections = nn.ModuleList(projection(w.pooled, inner, gain=TANH_GAIN) for w in inputs.values())
        self.out = projection(inner, width)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present has the product 1."""
        vectors = zip(self.projections, self.pooled(features, present), strict=True)
        return Features.of_pooled(self.out(hadamard([project(x).tanh() for project, x in vectors], present)))
