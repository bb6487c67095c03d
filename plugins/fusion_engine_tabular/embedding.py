"""A learned vector a category."""

from typing import Annotated

import torch
from einops import einsum
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import embedding

from fusion_engine import CategoryModality, Encoder, Features, Signal


class EmbeddingEncoder(Encoder):
    """Look up one learned vector a category; a soft one-hot gives the weighted mean of them.

        embed(x) = weight[x]  or  x @ weight

    Indices [b] or soft one-hots [b v] -> pooled [b width], which is also the only token.

    Args:
        modality: the categories.
        width: of a vector.
    """

    def __init__(self, modality: CategoryModality, *, width: Annotated[int, Field(ge=1)] = 32) -> None:
        super().__init__(modality, width)
        self.weight = nn.Parameter(torch.randn(len(modality.classes), width))

    def embed(self, data: Tensor) -> Float[Tensor, "b d"]:
        """Return the vectors of indices or of soft one-hots; the two agree."""
        if data.is_floating_point():
            return einsum(data, self.weight, "b v, v d -> b d")
        return embedding(data, self.weight)

    def encode(self, x: Float[Tensor, "b d"], signal: Signal) -> Features:
        """Wrap the vectors."""
        return Features.of_pooled(x)
