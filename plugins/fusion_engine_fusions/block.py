"""Block superdiagonal fusion (BLOCK): Ben-younes et al., AAAI 2019, arXiv:1902.00038."""

from collections.abc import Mapping
from typing import Annotated

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import BuildError, Features, Fusion, Widths
from fusion_engine_fusions.bilinear import hadamard, l2_normalised, projection, signed_sqrt


class BlockFusion(Fusion):
    """Decompose the bilinear form into block terms: chunks of the inputs meet, each in a core of low rank.

        t_i   = U_i x_i + a_i, cut into chunks t_ic             [b c inner/c]
        z_c   = sum_r prod_i (M_ic^r t_ic)                      [b inner/c]
        fused = P [l2_normalised(sign(z_c) sqrt(|z_c|)) for all c] + bias

    Chunks between the one of MUTAN and the many of a CP decomposition, where each holds one number. The paper has two
    inputs; the product runs over any number. Missing: the factor M_ic^r t_ic of an absent input is 1.
    Axes: b batch, m inputs, c chunk, r rank, p and q width of a chunk, d width.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike.
        inner: the width that each input is projected to, and that of all chunks together.
        chunks: how many; divides inner, and is less.
        rank: of the cores' slices.

    Raises:
        BuildError: chunks does not divide inner, or leaves one number each.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        width: Annotated[int, Field(ge=1)] = 128,
        inner: Annotated[int, Field(ge=1)] = 256,
        chunks: Annotated[int, Field(ge=1)] = 8,
        rank: Annotated[int, Field(ge=1)] = 5,
    ) -> None:
        if inner % chunks or inner == chunks:
            raise BuildError(
                "the inner width does not fall into chunks",
                expected="chunks that divide inner, of two numbers or more: of a normalised one only the sign is left",
                actual=f"inner {inner}, chunks {chunks}",
                fix=f"inner {max(2, -(-inner // chunks)) * chunks}",
            )
        super().__init__(inputs, width)
        self.chunks = chunks
        p = inner // chunks
        self.projections = nn.ModuleList(projection(w.pooled, inner) for w in inputs.values())
        self.cores = nn.ParameterList(nn.Parameter(torch.randn(chunks, rank, p, p) * p**-0.5) for _ in inputs)
        self.out = projection(inner, width, gain=p**0.5)  # chunks have length 1

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present has the products 1."""
        vectors = zip(self.cores, self.projections, self.pooled(features, present), strict=True)
        product = hadamard([self._factor(core, project(x)) for core, project, x in vectors], present)
        z = reduce(product, "b (c r q) -> b c q", "sum", c=self.chunks, r=self.cores[0].shape[1])
        return Features.of_pooled(self.out(rearrange(l2_normalised(signed_sqrt(z)), "b c q -> b (c q)")))

    def _factor(self, core: Float[Tensor, "c r p q"], t: Float[Tensor, "b inner"]) -> Float[Tensor, "b crq"]:
        chunks = rearrange(t, "b (c p) -> b c p", c=self.chunks)
        return rearrange(einsum(chunks, core, "b c p, c r p q -> b c r q"), "b c r q -> b (c r q)")
