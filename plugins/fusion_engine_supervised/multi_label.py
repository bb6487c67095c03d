"""The head that predicts a set of tags: binary relevance, Tsoumakas and Katakis, 2007, doi:10.4018/jdwm.2007070101."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from fusion_engine import Features, Head, Signal, TagsModality, Widths
from fusion_engine_supervised.body import body


class MultiLabelHead(Head):
    """Predict tags: one logit each, in the order of the modality's classes, each tag by itself.

        logits = mlp([pooled_1, ..., pooled_m]),  P(tag_j) = sigmoid(logits_j),  decided: P(tag_j) >= threshold

    A missing input's vector is zero. Axes: b batch, m inputs, v classes.

    Args:
        inputs: the widths of each input.
        modality: what it predicts.
        hidden: the width of one hidden layer; 0 for none.
        threshold: the least probability of a tag that is said to be there.
    """

    predicts = True

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        modality: TagsModality,
        *,
        hidden: Annotated[int, Field(ge=0)] = 0,
        threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5,
    ) -> None:
        super().__init__(inputs, modality, len(modality.classes))
        self.threshold = threshold
        self.mlp = body(inputs, hidden, self.outputs)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b v"]:
        """Predict the logits; a row with nothing present gets the same as any other such row."""
        logits: Tensor = self.mlp(torch.cat(self.pooled(features, present), -1))
        return logits

    def probabilities(self, output: Float[Tensor, "b v"]) -> Float[Tensor, "b v"]:
        """Return the probability of each tag; they do not sum to one."""
        return output.sigmoid()

    def decide(self, output: Float[Tensor, "b v"]) -> Signal:
        """Mark the tags whose probability reaches the threshold."""
        return Signal((self.probabilities(output) >= self.threshold).to(output))
