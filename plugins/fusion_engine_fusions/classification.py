"""The head that predicts a category."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from fusion_engine import BuildError, CategoryModality, Features, Head, Widths
from fusion_engine_fusions.mlp import mlp


class ClassificationHead(Head):
    """Predict the class of a category: one logit each, in the order of the modality's classes.

        logits = mlp([pooled_1, ..., pooled_m]), zero where absent

    Axes: b batch, m inputs, v classes.

    Args:
        inputs: the widths of each input.
        modality: what it predicts.
        hidden: the width of one hidden layer; 0 for none.

    Raises:
        BuildError: the modality has no classes yet.
    """

    predicts = True

    def __init__(
        self, inputs: Mapping[str, Widths], modality: CategoryModality, *, hidden: Annotated[int, Field(ge=0)] = 0
    ) -> None:
        classes = len(modality.classes)
        if not classes:
            raise BuildError(
                "the category has no classes",
                expected="at least one",
                actual="none",
                fix="name them, or fit it to data",
            )
        super().__init__(inputs, modality, classes)
        self.mlp = mlp(sum(w.pooled for w in inputs.values()), *([hidden] if hidden else []), classes)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b v"]:
        """Predict; a row with nothing present gets the same logits as any other such row."""
        logits: Tensor = self.mlp(torch.cat(self.pooled(features, present), -1))
        return logits
