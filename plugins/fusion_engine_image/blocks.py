"""Shared pieces of the convolutional networks: no normalisation, so they serve discriminators as they are."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

SLOPE = 0.2


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    """Make a convolution that keeps the variance of what follows a leaky ReLU; its bias starts at zero."""
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2)
    nn.init.kaiming_normal_(layer.weight, a=SLOPE)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class ResidualBlock(nn.Module):
    """Add two convolutions to x; the last starts at zero, so that the block starts as the identity.

        x + conv2(lrelu(conv1(lrelu(x))))

    After the R3GAN block, Huang et al., NeurIPS 2024, arXiv:2501.05441.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = conv(channels, channels), conv(channels, channels)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return x with the change added."""
        change: Tensor = self.last(leaky_relu(self.first(leaky_relu(x, SLOPE)), SLOPE))
        return x + change


def halvings(height: int, width: int) -> int:
    """Say how often to halve an image (rounding up) until its shorter side is at most 4; at least once."""
    return max(1, math.ceil(math.log2(min(height, width) / 4)))


def halved(side: int, times: int) -> int:
    """Return a side after so many halvings, each rounded up."""
    return math.ceil(side / (1 << times))


def widths_of_stages(channels: int, stages: int) -> list[int]:
    """Return the channels before and after each stage: doubled at each, up to four times the first."""
    return [channels * 2 ** min(i, 2) for i in range(stages + 1)]


def grid_positions(height: int, width: int) -> Float[Tensor, "n 2"]:
    """Return (row, column) of the centre of each cell, row by row, each in (-1, 1)."""
    rows, columns = ((2 * torch.arange(side) + 1) / side - 1 for side in (height, width))
    return rearrange(torch.stack(torch.meshgrid(rows, columns, indexing="ij")), "p h w -> (h w) p")
