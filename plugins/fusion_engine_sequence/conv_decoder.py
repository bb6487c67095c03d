"""A small residual CNN along time from a latent to a sequence, for decoders and generators."""

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from einops.layers.torch import Rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from fusion_engine import Decoder, Features, Likelihood, SequenceModality, Widths, over_samples
from fusion_engine_sequence.likelihood import SequenceLikelihood

SLOPE = 0.2
_COARSEST = 8
"""Time grows from at most so many cells."""


class ConvDecoder(Decoder):
    """Grow time from at most 8 cells: residual block, linear doubling; at last a convolution to the channels.

        (mean_t, logits_t, stop_t) = conv(...)
        x_t ~ Normal(mean_t, scale) or Bernoulli(logits_t), n ~ the hazard sigmoid(stop_t)

    All steps are made at once; every doubling may overshoot, and steps too many are cropped at the end. No layer
    normalises. z [*k b z] -> sequences [*k b n c] with n the modality's length.

    Args:
        latent: the width of z.
        modality: the sequences.
        conditions: whose pooled vectors join z.
        channels: of every layer.
        scale: the deviation of continuous channels, in units of the prepared data.
    """

    def __init__(
        self,
        latent: int,
        modality: SequenceModality,
        conditions: Mapping[str, Widths] | None = None,
        *,
        channels: Annotated[int, Field(ge=1)] = 64,
        scale: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.scale, self.length = scale, modality.length
        is_binary = torch.tensor([i in modality.binary for i in range(modality.channels)])
        self.is_binary: Tensor
        self.register_buffer("is_binary", is_binary, persistent=False)
        doublings = max(0, math.ceil(math.log2(self.length / _COARSEST)))
        cells = math.ceil(self.length / 2**doublings)
        grown = [
            layer
            for _ in range(doublings)
            for layer in (_Block(channels), nn.Upsample(scale_factor=2, mode="linear", align_corners=False))
        ]
        self.body = nn.Sequential(
            nn.Linear(self.inputs_width, channels * cells),
            Rearrange("r (c n) -> r c n", n=cells),
            *grown,
            _Block(channels),
            nn.LeakyReLU(SLOPE),
            nn.Conv1d(channels, modality.channels + 1, 3, padding=1),
            Rearrange("r o n -> r n o"),
        )

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode into values and a hazard a step."""
        outputs = over_samples(self.body, self.joined(z, conditions))[..., : self.length, :]
        return SequenceLikelihood(outputs[..., :-1], outputs[..., -1], self.is_binary, self.scale)


class _Block(nn.Module):
    """Add two convolutions to x; the last starts at zero, so that the block starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = (nn.Conv1d(channels, channels, 3, padding=1) for _ in range(2))
        nn.init.kaiming_normal_(self.first.weight, a=SLOPE)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Float[Tensor, "r c n"]) -> Float[Tensor, "r c n"]:
        """Return x with the change added."""
        change: Tensor = self.last(leaky_relu(self.first(leaky_relu(x, SLOPE)), SLOPE))
        return x + change
