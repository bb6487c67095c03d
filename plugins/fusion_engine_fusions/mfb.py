"""Multimodal factorised bilinear pooling (MFB): Yu et al., ICCV 2017, arXiv:1708.01471."""

from collections.abc import Mapping
from typing import Annotated

from einops import reduce
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Features, Fusion, Widths
from fusion_engine_fusions.bilinear import hadamard, l2_normalised, projection, signed_sqrt


class MFBFusion(Fusion):
    """Multiply wide projections of the inputs and add them up in windows; take a signed square root, normalise.

        product = dropout(prod_i (U_i x_i + a_i))              [b width*window]
        pooled  = sum of product over windows                  [b width]
        fused   = l2_normalised(sign(pooled) sqrt(|pooled|))   [b width], of length 1

    The paper has two inputs; the product runs over any number. Missing: the factor of an absent input is 1.
    Axes: b batch, m inputs, w window, d width.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike; of one number only the sign would be left.
        window: how many products make one output, the rank of its bilinear form (the paper's k).
        dropout: of the product.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        width: Annotated[int, Field(ge=2)] = 128,
        window: Annotated[int, Field(ge=1)] = 5,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__(inputs, width)
        self.window = window
        self.projections = nn.ModuleList(projection(w.pooled, width * window) for w in inputs.values())
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present gives equal numbers."""
        vectors = zip(self.projections, self.pooled(features, present), strict=True)
        product = self.dropout(hadamard([project(x) for project, x in vectors], present))
        pooled = reduce(product, "b (d w) -> b d", "sum", w=self.window)
        return Features.of_pooled(l2_normalised(signed_sqrt(pooled)))
