"""A recurrent decoder of sequences that makes all steps at once."""

from collections.abc import Mapping
from typing import Annotated

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Decoder, Features, Likelihood, SequenceModality, Widths, over_samples
from fusion_engine_sequence.likelihood import SequenceLikelihood
from fusion_engine_sequence.recurrent import Cell, recurrent


class RNNDecoder(Decoder):
    """Run a GRU or LSTM over the steps' learned positions, with z as an input of each step; no step waits for a sample.

        (mean_t, logits_t, stop_t) = linear(rnn(linear(z) + position_t))
        x_t ~ Normal(mean_t, scale) or Bernoulli(logits_t), n ~ the hazard sigmoid(stop_t)

    z [*k b z] -> sequences [*k b n c] with n the modality's length.

    Args:
        latent: the width of z.
        modality: the sequences.
        conditions: whose pooled vectors join z.
        cell: gru or lstm.
        width: of the state.
        scale: the deviation of continuous channels, in units of the prepared data.
    """

    def __init__(
        self,
        latent: int,
        modality: SequenceModality,
        conditions: Mapping[str, Widths] | None = None,
        *,
        cell: Cell = "gru",
        width: Annotated[int, Field(ge=1)] = 64,
        scale: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.scale = scale
        is_binary = torch.tensor([i in modality.binary for i in range(modality.channels)])
        self.is_binary: Tensor
        self.register_buffer("is_binary", is_binary, persistent=False)
        self.linear = nn.Linear(self.inputs_width, width)
        self.position = nn.Parameter(torch.randn(modality.length, width))
        self.rnn = recurrent(cell, width, width)
        self.out = nn.Linear(width, modality.channels + 1)

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode into values and a hazard a step."""
        outputs = over_samples(self._steps, self.joined(z, conditions))
        return SequenceLikelihood(outputs[..., :-1], outputs[..., -1], self.is_binary, self.scale)

    def _steps(self, z: Float[Tensor, "r d"]) -> Float[Tensor, "r n o"]:
        positions = repeat(self.position, "n d -> r n d", r=len(z))
        out: Tensor = self.out(self.rnn(rearrange(self.linear(z), "r d -> r 1 d") + positions)[0])
        return out
