"""Shared pieces of the convolutional networks: no normalisation, so they serve discriminators as they are."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

SLOPE = 0.2


def _started(layer: nn.Conv1d | nn.Conv2d) -> None:
    """Keep the variance of what follows a leaky ReLU; start biases at zero."""
    nn.init.kaiming_normal_(layer.weight, a=SLOPE)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def conv1d(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv1d:
    """Make a convolution along time; n steps become ceil(n / stride)."""
    layer = nn.Conv1d(inputs, outputs, size, stride, padding=size // 2)
    _started(layer)
    return layer


def conv2d(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    """Make a convolution along time and frequency; n cells become ceil(n / stride) on each axis."""
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2)
    _started(layer)
    return layer


class ResidualBlock(nn.Module):
    """Add two convolutions to x; the last starts at zero, so that the block starts as the identity.

        x + conv2(lrelu(conv1(lrelu(x))))

    After the R3GAN block, Huang et al., NeurIPS 2024, arXiv:2501.05441. x has one axis behind its channels, or two.
    """

    def __init__(self, first: nn.Conv1d | nn.Conv2d, last: nn.Conv1d | nn.Conv2d) -> None:
        super().__init__()
        self.first, self.last = first, last
        nn.init.zeros_(last.weight)

    def forward(self, x: Float[Tensor, "b c *n"]) -> Float[Tensor, "b c *n"]:
        """Return x with the change added."""
        change: Tensor = self.last(leaky_relu(self.first(leaky_relu(x, SLOPE)), SLOPE))
        return x + change


def block1d(channels: int) -> ResidualBlock:
    """Make a residual block along time."""
    return ResidualBlock(conv1d(channels, channels), conv1d(channels, channels))


def block2d(channels: int) -> ResidualBlock:
    """Make a residual block along time and frequency."""
    return ResidualBlock(conv2d(channels, channels), conv2d(channels, channels))


def divisions(side: int, factor: int, most: int) -> int:
    """Say how often to divide a side (rounding up) until it is at most ``most``; at least once."""
    times = 1
    while divided(side, factor, times) > most:
        times += 1
    return times


def divided(side: int, factor: int, times: int) -> int:
    """Return a side after so many divisions, each rounded up."""
    return math.ceil(side / int(factor**times))


def widths_of_stages(channels: int, stages: int) -> list[int]:
    """Return the channels before and after each stage: doubled at each, up to four times the first."""
    return [channels * 2 ** min(i, 2) for i in range(stages + 1)]


def time_positions(cells: int) -> Float[Tensor, "n 1"]:
    """Return the centre of each cell of the time axis, in (-1, 1)."""
    return ((2 * torch.arange(cells) + 1) / cells - 1)[:, None]
