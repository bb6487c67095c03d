"""Low-rank fusion whose factors never train, as a plugin of one file: the baseline that shows what is lost.

Factors kept in a plain Python list are no parameters of the module: no optimizer sees them, and they stay as they were
drawn. This strategy does that on purpose, beside ``fusion/low_rank``, whose formula it has (Liu et al., ACL 2018,
arXiv:1806.00064). Use it with ``Engine(plugins=["examples/plugins/frozen_low_rank.py"])`` or ``--plugin``.
"""

from collections.abc import Mapping
from functools import reduce
from typing import TYPE_CHECKING, Annotated

import torch
from einops import einsum
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

from fusion_engine import Features, Fusion, Widths, hookimpl

if TYPE_CHECKING:
    from fusion_engine import Registry


class FrozenLowRankFusion(Fusion):
    """Weigh products of random projections of the inputs; only the weights of the products and the bias learn.

        fused = bias + sum_r weight_r prod_i (W_i^r [x_i, 1]),   W_i^r fixed where it starts

    The factors are buffers: saved with the model, and moved with it, but never trained. They start as those of
    ``fusion/low_rank`` do. Missing: of an absent input the 1 stays and the rest is zero.
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
        for i, w in enumerate(inputs.values()):
            weights = torch.randn(rank, w.pooled, width) * (m * w.pooled) ** -0.5
            signs = torch.randint(2, (rank, 1, width)) * 2 - 1
            self.register_buffer(f"factor{i}", torch.cat([weights, signs * (1 - 1 / m) ** 0.5], 1))
        self.weight = nn.Parameter(torch.full([rank], rank**-0.5))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present gives the product of the constants."""
        products = [
            einsum(pad(x, (0, 1), value=1.0), self.get_buffer(f"factor{i}"), "b p, r p d -> b r d")
            for i, x in enumerate(self.pooled(features, present))
        ]
        terms = reduce(torch.mul, products)
        return Features.of_pooled(einsum(terms, self.weight, "b r d, r -> b d") + self.bias)


@hookimpl
def register_components(registry: "Registry") -> None:
    """Register the one component, named ``fusion/frozen_low_rank`` in a config."""
    registry.fusion("frozen_low_rank", FrozenLowRankFusion)
