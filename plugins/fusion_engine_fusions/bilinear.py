"""What the bilinear family shares: projections of one scale, products over inputs, and normalisation that stays smooth.

Axes: b batch, m inputs, d width.
"""

from collections.abc import Sequence
from functools import reduce

import torch
from jaxtyping import Bool, Float, Inexact
from torch import Tensor, nn

EPS = 1e-6
"""Where the square root and the norm turn smooth, so that both derivatives exist at zero."""
TANH_GAIN = 5 / 3
"""The gain that makes up for what tanh takes from the variance."""


def projection(d_in: int, d_out: int, *, gain: float = 1.0, bias: bool = True) -> nn.Linear:
    """Make a Linear whose output has unit variance where its input has: weight ~ N(0, gain^2 / d_in), bias 0.

    A product of m such outputs keeps unit variance for every m; PyTorch's own start would give 3^-m.
    """
    linear = nn.Linear(d_in, d_out, bias=bias)
    nn.init.normal_(linear.weight, std=gain * d_in**-0.5)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


def hadamard(factors: Sequence[Inexact[Tensor, "b d"]], present: Bool[Tensor, "b m"]) -> Inexact[Tensor, "b d"]:
    """Multiply over the inputs, elementwise; the factor of an absent one is 1, whatever it holds.

    out = prod_i (factor_i where present, else 1)
    """
    return reduce(torch.mul, [x.masked_fill(~present[:, i, None], 1.0) for i, x in enumerate(factors)])


def signed_sqrt(x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
    """Take sign(x) sqrt(|x|), in the smooth form x / (x^2 + eps)^(1/4): its slope at zero is finite, eps^(-1/4)."""
    return x * (x.square() + EPS).pow(-0.25)


def l2_normalised(x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
    """Scale the last axis to unit length, x / sqrt(sum x^2 + eps); zeros stay zeros and can be differentiated twice."""
    return x * (x.square().sum(-1, keepdim=True) + EPS).rsqrt()
