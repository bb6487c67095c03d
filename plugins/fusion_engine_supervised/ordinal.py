"""The head that predicts an ordered class: proportional odds, McCullagh, JRSS B, 1980."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from fusion_engine import BuildError, CategoryModality, Features, Head, Widths
from fusion_engine_supervised.body import body
from fusion_engine_supervised.cumulative import log_probabilities


class OrdinalHead(Head):
    """Predict an ordered class by one score and cutpoints that it has to pass.

        P(y > j) = sigmoid(f - theta_j),  f = mlp([pooled_1, ..., pooled_m]),
        theta_0 = raw_0,  theta_j = theta_{j-1} + softplus(raw_j)

    The cutpoints increase by construction; at first all classes are equally likely at f = 0. The order is that of the
    modality's ``classes``. A missing input's vector is zero. Axes: b batch, m inputs, v classes; it returns the v - 1
    cumulative logits f - theta_j.

    Args:
        inputs: the widths of each input.
        modality: what it predicts.
        hidden: the width of one hidden layer; 0 for none.

    Raises:
        BuildError: the modality has a single class.
    """

    predicts = True

    def __init__(
        self, inputs: Mapping[str, Widths], modality: CategoryModality, *, hidden: Annotated[int, Field(ge=0)] = 0
    ) -> None:
        v = len(modality.classes)
        if v < 2:
            raise BuildError("ordered classes are at least two", expected="2 or more `classes`", actual=str(v))
        super().__init__(inputs, modality, v - 1)
        self.mlp = body(inputs, hidden, 1, bias=False)  # the cutpoints are its bias
        theta = (torch.arange(1, v) / v).logit()
        self.raw = nn.Parameter(torch.cat([theta[:1], torch.log(torch.expm1(theta.diff()))]))

    @property
    def cutpoints(self) -> Float[Tensor, " o"]:
        """The increasing theta, one between two classes."""
        return torch.cat([self.raw[:1], softplus(self.raw[1:])]).cumsum(0)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b o"]:
        """Predict the cumulative logits; a row with nothing present gets the same as any other such row."""
        score: Tensor = self.mlp(torch.cat(self.pooled(features, present), -1))
        return score - self.cutpoints

    def probabilities(self, output: Float[Tensor, "b o"]) -> Float[Tensor, "b v"]:
        """Return the probability of each class."""
        return log_probabilities(output).softmax(-1)
