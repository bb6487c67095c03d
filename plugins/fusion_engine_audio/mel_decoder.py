"""A small residual CNN along time from a latent to a spectrogram, for decoders and generators."""

from collections.abc import Mapping
from typing import Annotated

from einops.layers.torch import Rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Normal

from fusion_engine import (
    Decoder,
    DistributionLikelihood,
    Features,
    Likelihood,
    SpectrogramModality,
    Widths,
    over_samples,
)
from fusion_engine_audio.blocks import SLOPE, block1d, conv1d, divided, divisions

_COARSEST = 7
"""Time grows from at most so many cells."""


class MelDecoder(Decoder):
    """Grow time from at most 7 cells: residual block, nearest doubling; at last a convolution to the bands.

        p(x | z) = Normal(f(z), scale), independent over frames and bands

    Bands are channels: convolutions run along time alone. The last doubling may overshoot: frames too many are cropped.
    No layer normalises. z [*k b z] -> spectrograms [*k b t f].

    Args:
        latent: the width of z.
        modality: the spectrograms.
        conditions: whose pooled vectors join z.
        channels: of every layer.
        scale: the deviation of each value, in units of the prepared data.
    """

    def __init__(
        self,
        latent: int,
        modality: SpectrogramModality,
        conditions: Mapping[str, Widths] | None = None,
        *,
        channels: Annotated[int, Field(ge=1)] = 128,
        scale: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.scale = scale
        self.frames = modality.frames
        stages = divisions(self.frames, 2, _COARSEST)
        cells = divided(self.frames, 2, stages)
        grown = [layer for _ in range(stages) for layer in (block1d(channels), nn.Upsample(scale_factor=2))]
        self.body = nn.Sequential(
            nn.Linear(self.inputs_width, channels * cells),
            Rearrange("r (c t) -> r c t", t=cells),
            *grown,
            nn.LeakyReLU(SLOPE),
            conv1d(channels, modality.bands),
            Rearrange("r f t -> r t f"),
        )

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode into a normal distribution a value."""
        mean = over_samples(self.body, self.joined(z, conditions))[..., : self.frames, :]
        return DistributionLikelihood(Normal(mean, self.scale, validate_args=False), sample_axes=z.ndim - 2)
