"""A small residual CNN from a latent to an image, for decoders and generators."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated

from einops.layers.torch import Rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Normal

from fusion_engine import Decoder, DistributionLikelihood, Features, ImageModality, Likelihood, Widths, over_samples
from fusion_engine_image.blocks import SLOPE, ResidualBlock, conv, halved, halvings, widths_of_stages


class ConvDecoder(Decoder):
    """Grow an image from a grid whose shorter side is at most 4: residual block, convolution, nearest doubling.

        p(x | z) = Normal(f(z), scale), independent over pixels

    The last doubling may overshoot: what is too much is cropped on the right and below. No layer normalises.
    z [*k b z] -> images [*k b c h w].

    Args:
        latent: the width of z.
        modality: the images.
        conditions: whose pooled vectors join z.
        channels: of the full-sized grid; doubled at each halving, up to four times.
        scale: the deviation of each pixel, in units of the prepared data.
    """

    def __init__(
        self,
        latent: int,
        modality: ImageModality,
        conditions: Mapping[str, Widths] | None = None,
        *,
        channels: Annotated[int, Field(ge=1)] = 16,
        scale: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.scale = scale
        c, h, w = self.shape = modality.shape
        stages = halvings(h, w)
        inner = widths_of_stages(channels, stages)[::-1]
        gh, gw = halved(h, stages), halved(w, stages)
        layers: list[nn.Module] = [
            nn.Linear(self.inputs_width, inner[0] * gh * gw),
            Rearrange("r (c h w) -> r c h w", h=gh, w=gw),
        ]
        for before, after in pairwise(inner):
            layers += [ResidualBlock(before), nn.LeakyReLU(SLOPE), conv(before, after), nn.Upsample(scale_factor=2)]
        self.body = nn.Sequential(*layers, nn.LeakyReLU(SLOPE), conv(inner[-1], c))

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode into a normal distribution a pixel."""
        _, h, w = self.shape
        mean = over_samples(self.body, self.joined(z, conditions))[..., :h, :w]
        return DistributionLikelihood(Normal(mean, self.scale, validate_args=False), sample_axes=z.ndim - 2)
