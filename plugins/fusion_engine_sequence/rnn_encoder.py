"""A recurrent encoder of sequences."""

from itertools import pairwise
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Encoder, Features, SequenceModality, Signal, Widths, fill
from fusion_engine_sequence.recurrent import Cell, RecurrentLayer


class RNNEncoder(Encoder):
    """Read a sequence with a GRU or LSTM; a token a step, the final states as the pooled vector.

    Masks are prefixes, so that no step sees padding. A row without steps gives zeros.
    Sequences [b n c] -> tokens [b n d], pooled [b d], d = width (twice that where bidirectional).

    Args:
        modality: the sequences.
        cell: gru or lstm.
        width: of each direction's state.
        layers: stacked on one another.
        bidirectional: read backwards too.
    """

    def __init__(
        self,
        modality: SequenceModality,
        *,
        cell: Cell = "gru",
        width: Annotated[int, Field(ge=1)] = 64,
        layers: Annotated[int, Field(ge=1)] = 1,
        bidirectional: bool = True,
    ) -> None:
        out = width * (2 if bidirectional else 1)
        super().__init__(modality, Widths(out, out))
        inputs = [modality.channels, *[out] * layers]
        self.layers = nn.ModuleList(
            RecurrentLayer(cell, before, width, bidirectional) for before, _ in pairwise(inputs)
        )

    def encode(self, x: Float[Tensor, "b n c"], signal: Signal) -> Features:
        """Encode; padded steps give zeros."""
        mask = signal.mask if signal.mask is not None else torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        lengths = mask.sum(1)
        states = fill(x, mask)
        for layer in self.layers:
            states = layer(states, lengths)
        last = self.layers[-1]
        assert isinstance(last, RecurrentLayer)
        return Features(fill(states, mask), last.final(states, lengths), mask, signal.position)
