"""The multilayer perceptron that fusions and heads share."""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

from torch import nn

Activation = Literal["relu", "leaky_relu", "gelu", "silu"]
"""Names of activations in a config."""

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def mlp(*widths: int, activation: Activation = "relu") -> nn.Sequential:
    """Chain Linear layers of the given widths, with an activation between them and none behind the last."""
    layers: list[nn.Module] = []
    for d_in, d_out in pairwise(widths):
        layers += [nn.Linear(d_in, d_out), _ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])
