"""Recurrent layers that know where each row ends."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Cell = Literal["gru", "lstm"]


def recurrent(cell: Cell, inputs: int, width: int) -> nn.GRU | nn.LSTM:
    """Make one recurrent layer, batch first."""
    kind = nn.GRU if cell == "gru" else nn.LSTM
    return kind(inputs, width, batch_first=True)


def reversed_prefix(x: Float[Tensor, "b n d"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b n d"]:
    """Reverse the first ``lengths`` steps of each row and leave the rest where it is; its own inverse."""
    steps = torch.arange(x.shape[1], device=x.device)
    index = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    return x.gather(1, index[..., None].expand_as(x))


class RecurrentLayer(nn.Module):
    """Run over the steps, and where bidirectional also back from each row's own end.

    No step sees padding: it lies behind the end for the one direction, and the other starts at the end.
    """

    def __init__(self, cell: Cell, inputs: int, width: int, bidirectional: bool) -> None:
        super().__init__()
        self.onward = recurrent(cell, inputs, width)
        self.back = recurrent(cell, inputs, width) if bidirectional else None
        self.last = width

    def forward(self, x: Float[Tensor, "b n d"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b n o"]:
        """Return the state at each step, of both directions side by side."""
        onward: Tensor = self.onward(x)[0]
        if self.back is None:
            return onward
        back = reversed_prefix(self.back(reversed_prefix(x, lengths))[0], lengths)
        return torch.cat([onward, back], -1)

    def final(self, states: Float[Tensor, "b n o"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b o"]:
        """Return each direction's state at its own end, the last step's or the first one's; zero without steps."""
        ends = states.gather(1, (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, states.shape[-1]))[:, 0]
        both = torch.cat([ends[:, : self.last], states[:, 0, self.last :]], -1)
        return both.masked_fill(lengths[:, None] == 0, 0.0)
