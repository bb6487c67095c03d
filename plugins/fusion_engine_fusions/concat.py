"""Concatenation with a learned placeholder for what is absent."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Features, Fusion, Widths
from fusion_engine_fusions.mlp import Activation, mlp


class ConcatFusion(Fusion):
    """Concatenate the pooled vectors and put a multilayer perceptron behind them.

        fused = mlp([x_1, ..., x_m]),  x_i = pooled_i where present, else placeholder_i (learned)

    Axes: b batch, m inputs, d width.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike.
        depth: hidden layers; 0 leaves one Linear.
        hidden: their width; that of the output where it is not given.
        activation: behind each hidden layer.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        width: Annotated[int, Field(ge=1)] = 128,
        depth: Annotated[int, Field(ge=0)] = 1,
        hidden: Annotated[int, Field(ge=1)] | None = None,
        activation: Activation = "relu",
    ) -> None:
        super().__init__(inputs, width)
        sizes = [w.pooled for w in inputs.values()]
        self.placeholders = nn.ParameterList(nn.Parameter(torch.zeros(d)) for d in sizes)
        self.mlp = mlp(sum(sizes), *[hidden or width] * depth, width, activation=activation)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present is made of placeholders alone."""
        vectors = [
            torch.where(present[:, i, None], x, placeholder)
            for i, (x, placeholder) in enumerate(zip(self.pooled(features, present), self.placeholders, strict=True))
        ]
        return Features.of_pooled(self.mlp(torch.cat(vectors, -1)))
