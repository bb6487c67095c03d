"""The head that predicts numbers: the mean of a normal distribution a channel, least squares (Gauss, 1809)."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from fusion_engine import Features, FusionError, Head, NumberModality, Signal, Widths
from fusion_engine_supervised.body import body


class RegressionHead(Head):
    """Predict the mean of each channel, in units of the prepared data; the modality restores raw units.

        mean = mlp([pooled_1, ..., pooled_m])

    A missing input's vector is zero. Axes: b batch, m inputs, c channels.

    Args:
        inputs: the widths of each input.
        modality: what it predicts.
        hidden: the width of one hidden layer; 0 for none.
    """

    predicts = True

    def __init__(
        self, inputs: Mapping[str, Widths], modality: NumberModality, *, hidden: Annotated[int, Field(ge=0)] = 0
    ) -> None:
        super().__init__(inputs, modality, modality.channels)
        self.mlp = body(inputs, hidden, self.outputs)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b c"]:
        """Predict; a row with nothing present gets the same as any other such row."""
        mean: Tensor = self.mlp(torch.cat(self.pooled(features, present), -1))
        return mean

    def probabilities(self, output: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
        """Refuse: numbers have no classes.

        Raises:
            FusionError: always.
        """
        raise FusionError(
            "a regression has no class probabilities",
            expected="a head that predicts a category or tags",
            actual="head/regression",
            fix="use predict: it returns numbers in raw units",
        )

    def decide(self, output: Float[Tensor, "b c"]) -> Signal:
        """Return the mean itself."""
        return Signal(output)
