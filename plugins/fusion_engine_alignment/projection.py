"""A linear map of one vector into a space that several modalities share: Radford et al. 2021, arXiv:2103.00020."""

from collections.abc import Mapping
from typing import Annotated

from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Features, Fusion, Widths


class ProjectionFusion(Fusion):
    """Project the pooled vector of one input, without a bias.

        projected[b] = W pooled[b]

    pooled [b dp] -> pooled [b d], which is also the only token. A row that lacks the input gives zeros.

    Args:
        inputs: the widths of the input.
        width: d.
    """

    max_inputs = 1

    def __init__(self, inputs: Mapping[str, Widths], *, width: Annotated[int, Field(ge=1)] = 128) -> None:
        super().__init__(inputs, width)
        self.linear = nn.Linear(sum(w.pooled for w in inputs.values()), width, bias=False)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Project."""
        (vector,) = self.pooled(features, present)
        return Features.of_pooled(self.linear(vector))
