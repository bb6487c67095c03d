"""Multiplicative interactions: Jayakumar et al., ICLR 2020, "Multiplicative interactions and where to find them"."""

from collections.abc import Mapping
from itertools import repeat
from typing import Annotated

import torch
from einops import einsum
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Features, Fusion, Widths


class MultiplicativeFusion(Fusion):
    """Fold the inputs, in wiring order, with bilinear forms that keep all lower orders.

        two inputs:  fused = z^T W x + U z + V x + b,  z = x_1, x = x_2
        more:        s_2 = z^T W_2 x + ...,  s_i = s_{i-1}^T W_i x_i + U_i s_{i-1} + V_i x_i + b_i,  fused = s_m
        one:         fused = U x_1 + b

    Each W is of low rank: z^T W x = (P z)^T C (Q x) with P [r dz], Q [r dx], C [r r d]. The fused vector is a
    polynomial of degree at most one in each input. A missing input takes all monomials that it occurs in with it and
    the constant 1 stays: without z there is V x + b, without x there is U z + b, with neither b.
    Axes: b batch, m inputs, r rank, d width.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike.
        rank: r, of each side of a bilinear form; from the wider of its two sides on nothing is lost.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        width: Annotated[int, Field(ge=1)] = 128,
        rank: Annotated[int, Field(ge=1)] = 16,
    ) -> None:
        super().__init__(inputs, width)
        first, *others = [w.pooled for w in inputs.values()]
        self.start = nn.Identity() if others else nn.Linear(first, width)
        sides = zip([first, *repeat(width, len(others))], others, strict=False)
        self.interactions = nn.ModuleList(_Interaction(dz, dx, width, rank) for dz, dx in sides)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present gives a constant."""
        first, *others = self.pooled(features, present)  # zeros where absent, and all but b has a factor of its input
        state = self.start(first)
        for interact, x in zip(self.interactions, others, strict=True):
            state = interact(state, x)
        return Features.of_pooled(state)


class _Interaction(nn.Module):
    """z^T W x + U z + V x + b; C starts such that the bilinear term is not larger than the linear ones."""

    def __init__(self, dz: int, dx: int, width: int, rank: int) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(dz, rank, bias=False), nn.Linear(dx, rank, bias=False)
        self.core = nn.Parameter(torch.randn(rank, rank, width) / rank)
        self.linear_z, self.linear_x = nn.Linear(dz, width), nn.Linear(dx, width, bias=False)

    def forward(self, z: Float[Tensor, "b dz"], x: Float[Tensor, "b dx"]) -> Float[Tensor, "b d"]:
        bilinear = einsum(self.left(z), self.right(x), self.core, "b p, b q, p q d -> b d")
        out: Tensor = bilinear + self.linear_z(z) + self.linear_x(x)
        return out
