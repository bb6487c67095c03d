"""A residual CNN from a latent to a waveform, for decoders and generators."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated

from einops.layers.torch import Rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Normal

from fusion_engine import Decoder, DistributionLikelihood, Features, Likelihood, WaveformModality, Widths, over_samples
from fusion_engine_audio.blocks import SLOPE, block1d, conv1d, divided, divisions, widths_of_stages

_COARSEST = 31
"""Time grows from at most so many cells."""


class WaveDecoder(Decoder):
    """Grow a sound from at most 31 cells of time: residual block, nearest quadrupling, convolution.

        p(x | z) = Normal(f(z), scale), independent over samples

    The last convolution writes four samples a cell in place of a quadrupling, which is three times faster. The factor
    is that of WaveGAN, Donahue et al., ICLR 2019, arXiv:1802.04208; its transposed convolutions are replaced by copying
    and convolving. Samples too many are cropped. No layer normalises. z [*k b z] -> sounds [*k b t].

    Args:
        latent: the width of z.
        modality: the sounds.
        conditions: whose pooled vectors join z.
        channels: of the finest cells; doubled at each quartering, up to four times.
        scale: the deviation of each sample, in units of the prepared data.
    """

    def __init__(
        self,
        latent: int,
        modality: WaveformModality,
        conditions: Mapping[str, Widths] | None = None,
        *,
        channels: Annotated[int, Field(ge=1)] = 16,
        scale: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.scale = scale
        self.samples = modality.samples
        stages = divisions(self.samples, 4, _COARSEST)
        cells = divided(self.samples, 4, stages)
        inner = widths_of_stages(channels, stages - 1)[::-1]
        layers: list[nn.Module] = [
            nn.Linear(self.inputs_width, inner[0] * cells),
            Rearrange("r (c t) -> r c t", t=cells),
        ]
        for before, after in pairwise(inner):
            layers += [block1d(before), nn.LeakyReLU(SLOPE), nn.Upsample(scale_factor=4), conv1d(before, after, size=9)]
        last = [nn.LeakyReLU(SLOPE), conv1d(inner[-1], 4, size=7), Rearrange("r s t -> r (t s)")]
        self.body = nn.Sequential(*layers, *last)

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode into a normal distribution a sample."""
        mean = over_samples(self.body, self.joined(z, conditions))[..., : self.samples]
        return DistributionLikelihood(Normal(mean, self.scale, validate_args=False), sample_axes=z.ndim - 2)
