"""The head of a discriminator."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from fusion_engine import Features, Head, Widths
from fusion_engine_fusions.mlp import mlp


class ScoreHead(Head):
    """Score how real a row is: one unbounded number, higher for real.

        score = mlp([pooled_1, ..., pooled_m]), zero where absent

    It is not told what is present: real and generated data must differ by their content alone.
    Axes: b batch, m inputs.

    Args:
        inputs: the widths of each input.
        hidden: the width of one hidden layer; 0 for none, the features being the trunk's affair.
    """

    realness = True

    def __init__(
        self, inputs: Mapping[str, Widths], modality: None = None, *, hidden: Annotated[int, Field(ge=0)] = 0
    ) -> None:
        super().__init__(inputs, modality, 1)
        self.mlp = mlp(
            sum(w.pooled for w in inputs.values()), *([hidden] if hidden else []), 1, activation="leaky_relu"
        )

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b 1"]:
        """Score each row; one with nothing present gets a constant."""
        score: Tensor = self.mlp(torch.cat(self.pooled(features, present), -1))
        return score
