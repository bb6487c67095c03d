"""Tensor fusion network (TFN): Zadeh et al., EMNLP 2017, arXiv:1707.07250."""

from collections.abc import Mapping
from functools import reduce
from typing import Annotated

from einops import einsum, rearrange
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

from fusion_engine import BuildError, Features, Fusion, Widths
from fusion_engine_fusions.bilinear import projection

LIMIT = 2**20
"""The most numbers that the outer product of one row may have."""


class TensorFusion(Fusion):
    """Build the outer product of all inputs, each with a 1 appended, and map it linearly.

        fused = W ([U_1 x_1, 1] (x) ... (x) [U_m x_m, 1]) + bias

    The appended 1 keeps every lower-order product, down to the inputs by themselves. It has (inner + 1)^m elements a
    row, and W width times as many: 0.8 million weights for four inputs of the default widths, 7.6 million for five.
    Missing: of an absent input the 1 stays and the rest is zero, which leaves the products that do without it.
    Axes: b batch, m inputs, d width.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike.
        inner: the width that each input is projected to first.

    Raises:
        BuildError: the outer product has more than 2^20 elements a row.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        width: Annotated[int, Field(ge=1)] = 128,
        inner: Annotated[int, Field(ge=1)] = 8,
    ) -> None:
        size = (inner + 1) ** len(inputs)
        if size > LIMIT:
            raise BuildError(
                "the outer product of all inputs is too large",
                expected=f"(inner + 1)^inputs of at most {LIMIT} numbers a row",
                actual=f"{inner + 1}^{len(inputs)} = {size}",
                fix=_fix(len(inputs)),
            )
        super().__init__(inputs, width)
        self.projections = nn.ModuleList(projection(w.pooled, inner, bias=False) for w in inputs.values())
        self.out = nn.Linear(size, width)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present gives the weights of the constant."""
        vectors = zip(self.projections, self.pooled(features, present), strict=True)
        extended = [pad(project(x), (0, 1), value=1.0) for project, x in vectors]
        return Features.of_pooled(self.out(reduce(_outer, extended)))


def _outer(x: Float[Tensor, "b p"], y: Float[Tensor, "b q"]) -> Float[Tensor, "b pq"]:
    return rearrange(einsum(x, y, "b p, b q -> b p q"), "b p q -> b (p q)")


def _fix(m: int) -> str:
    largest = next((inner for inner in range(1024, 0, -1) if (inner + 1) ** m <= LIMIT), None)
    return "fusion/low_rank, which never builds it" + (f", or inner {largest} or less" if largest else "")
