"""Multimodal factorised high-order pooling (MFH): Yu et al., TNNLS 2018, arXiv:1708.03619."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Annotated

import torch
from einops import rearrange, reduce
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Features, Fusion, Widths
from fusion_engine_fusions.bilinear import hadamard, l2_normalised, projection, signed_sqrt


class MFHFusion(Fusion):
    """Cascade blocks of factorised bilinear pooling, each multiplied by the expanded product before it.

        product_0 = 1
        product_j = dropout(prod_i (U_ij x_i + a_ij)) * product_(j-1)      [b inner*window], j = 1 ... order
        pooled_j  = sum of product_j over windows                          [b inner]
        fused     = P [l2_normalised(sign(pooled_j) sqrt(|pooled_j|)) for all j] + c

    Block j sees products of degree j in every input. The paper has two inputs; the product runs over any number.
    Missing: the factor of an absent input is 1, in every block.
    Axes: b batch, m inputs, j block, w window, d inner width.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike.
        inner: the width of a block's output.
        order: how many blocks (the paper's p).
        window: how many products make one output of a block (the paper's k).
        dropout: of each product.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        width: Annotated[int, Field(ge=1)] = 128,
        inner: Annotated[int, Field(ge=2)] = 64,
        order: Annotated[int, Field(ge=1)] = 2,
        window: Annotated[int, Field(ge=1)] = 5,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__(inputs, width)
        self.order, self.window = order, window
        self.projections = nn.ModuleList(projection(w.pooled, order * inner * window) for w in inputs.values())
        self.dropout = nn.Dropout(dropout)
        self.out = projection(order * inner, width, gain=inner**0.5)  # blocks have length 1

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present has products 1."""
        vectors = zip(self.projections, self.pooled(features, present), strict=True)
        own = self.dropout(hadamard([project(x) for project, x in vectors], present))
        cascade = list(accumulate(own.chunk(self.order, -1), torch.mul))
        pooled = reduce(torch.stack(cascade, 1), "b j (d w) -> b j d", "sum", w=self.window)
        blocks = rearrange(l2_normalised(signed_sqrt(pooled)), "b j d -> b (j d)")
        return Features.of_pooled(self.out(blocks))
