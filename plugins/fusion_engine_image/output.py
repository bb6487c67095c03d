"""What the classic generators put behind their last layer."""

from typing import Literal

import torch
from torch import Tensor, nn

from fusion_engine import ImageModality

Output = Literal["tanh", "linear"]
"""Names of outputs in a config."""


class Bounded(nn.Module):
    """Squash into the range of the data: low + (high - low) (tanh(x) + 1) / 2, in prepared units."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.centre, self.reach = (high + low) / 2, (high - low) / 2

    def forward(self, x: Tensor) -> Tensor:
        """Squash every number."""
        return self.centre + self.reach * torch.tanh(x)


def bounded(modality: ImageModality, kind: Output) -> nn.Module:
    """Make the last step of a generator; where the modality has learned no range yet, tanh stays in (-1, 1)."""
    return Bounded(*(modality.bounds or (-1.0, 1.0))) if kind == "tanh" else nn.Identity()
