"""Multimodal Tucker fusion (MUTAN): Ben-younes et al., ICCV 2017, arXiv:1705.06676."""

from collections.abc import Mapping
from typing import Annotated

from einops import reduce
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Features, Fusion, Widths
from fusion_engine_fusions.bilinear import TANH_GAIN, hadamard, projection


class MUTANFusion(Fusion):
    """Decompose the bilinear form by Tucker, with a core whose slices have rank r.

        t_i   = tanh(U_i x_i + a_i)                       [b inner]
        fused = P sum_r prod_i (M_i^r t_i) + c            [b width]

    The paper has two inputs; the product runs over any number. Missing: the factor M_i^r t_i of an absent input is 1.
    Axes: b batch, m inputs, r rank, d inner width.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike.
        inner: the width of the core along each of its axes.
        rank: of the core's slices.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        width: Annotated[int, Field(ge=1)] = 128,
        inner: Annotated[int, Field(ge=1)] = 64,
        rank: Annotated[int, Field(ge=1)] = 5,
    ) -> None:
        super().__init__(inputs, width)
        self.rank = rank
        self.projections = nn.ModuleList(projection(w.pooled, inner) for w in inputs.values())
        self.cores = nn.ModuleList(projection(inner, rank * inner, gain=TANH_GAIN, bias=False) for _ in inputs)
        self.out = nn.Linear(inner, width)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present has the products 1."""
        vectors = zip(self.cores, self.projections, self.pooled(features, present), strict=True)
        product = hadamard([core(project(x).tanh()) for core, project, x in vectors], present)
        return Features.of_pooled(self.out(reduce(product, "b (r d) -> b d", "sum", r=self.rank)))
