"""Low-rank multimodal fusion (LMF): Liu et al., ACL 2018, arXiv:1806.00064."""

from collections.abc import Mapping
from functools import reduce
from typing import Annotated

import torch
from einops import einsum
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

from fusion_engine import Features, Fusion, Widths


class LowRankFusion(Fusion):
    """Weigh the outer product of all inputs by a tensor of rank r, without building either.

        fused = bias + sum_r weight_r prod_i (W_i^r [x_i, 1])

    This is tensor fusion whose weights are sum_r weight_r W_1^r (x) ... (x) W_m^r; time and memory are linear in m.
    Missing: of an absent input the 1 stays and the rest is zero, which leaves the products that do without it.

    Start: the weights of x_i are N(0, 1 / (m d_i)), that of the 1 is +-sqrt(1 - 1/m), and weight_r = rank^-1/2. With
    unit-variance inputs each factor then has mean square 1, hence their product and the sum over r too, for every m.
    As most of a factor is its constant, the product has no heavy tails for many inputs, and with all of them absent it
    still has mean square (1 - 1/m)^m.
    Axes: b batch, m inputs, r rank, p width of an input, d width.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike.
        rank: how many products are added up.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        width: Annotated[int, Field(ge=1)] = 128,
        rank: Annotated[int, Field(ge=1)] = 4,
    ) -> None:
        super().__init__(inputs, width)
        m = len(inputs)
        self.factors = nn.ParameterList(nn.Parameter(_start(rank, w.pooled, width, m)) for w in inputs.values())
        self.weight = nn.Parameter(torch.full([rank], rank**-0.5))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present gives the product of the constants."""
        vectors = zip(self.pooled(features, present), self.factors, strict=True)
        products = [einsum(pad(x, (0, 1), value=1.0), w, "b p, r p d -> b r d") for x, w in vectors]
        terms = reduce(torch.mul, products)
        return Features.of_pooled(einsum(terms, self.weight, "b r d, r -> b d") + self.bias)


def _start(rank: int, p: int, d: int, m: int) -> Float[Tensor, "r p1 d"]:
    weights = torch.randn(rank, p, d) * (m * p) ** -0.5
    signs = torch.randint(2, (rank, 1, d)) * 2 - 1
    return torch.cat([weights, signs * (1 - 1 / m) ** 0.5], 1)
