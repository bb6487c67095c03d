"""The network that the heads share, and the vector that it reads."""

from collections.abc import Mapping

from torch import nn

from fusion_engine import Widths


def body(inputs: Mapping[str, Widths], hidden: int, outputs: int, *, bias: bool = True) -> nn.Sequential:
    """Map concatenated pooled vectors to ``outputs`` numbers, over one hidden layer where ``hidden`` is not 0.

    ``bias`` is of the last layer.
    """
    width = sum(w.pooled for w in inputs.values())
    if not hidden:
        return nn.Sequential(nn.Linear(width, outputs, bias=bias))
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, outputs, bias=bias))
