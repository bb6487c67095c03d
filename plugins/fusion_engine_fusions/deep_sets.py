"""Deep sets: Zaheer et al. 2017, arXiv:1703.06114."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Features, Fusion, Widths
from fusion_engine_fusions.mlp import Activation, mlp


class DeepSetsFusion(Fusion):
    """Treat a row as the set of its present inputs, whatever their number.

        fused = rho(sum_{i present} phi(linear_i(x_i) + kind_i))

    phi and rho are multilayer perceptrons; phi is one for all inputs, and kind_i, a learned embedding of the input,
    tells it which one it sees. A missing input leaves the set; a row with nothing present gives rho(0).
    Axes: b batch, m inputs, d width.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike.
        hidden: the width of the set's elements and of hidden layers; that of the output where it is not given.
        depth: hidden layers of phi, and of rho.
        activation: behind each hidden layer.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        width: Annotated[int, Field(ge=1)] = 128,
        hidden: Annotated[int, Field(ge=1)] | None = None,
        depth: Annotated[int, Field(ge=0)] = 1,
        activation: Activation = "relu",
    ) -> None:
        super().__init__(inputs, width)
        hidden = hidden or width
        self.linears = nn.ModuleList(nn.Linear(w.pooled, hidden, bias=False) for w in inputs.values())
        self.kinds = nn.Parameter(torch.randn(len(inputs), hidden) * 0.02)
        layers = [hidden] * (depth + 1)
        self.phi = mlp(*layers, hidden, activation=activation)
        self.rho = mlp(*layers, width, activation=activation)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present gives rho(0)."""
        pairs = zip(self.linears, self.pooled(features, present), strict=True)
        elements = self.phi(torch.stack([linear(x) for linear, x in pairs], 1) + self.kinds)
        return Features.of_pooled(self.rho(elements.masked_fill(~present[..., None], 0.0).sum(1)))
