"""The multilayer perceptrons of the first GANs: Goodfellow et al., NeurIPS 2014, arXiv:1406.2661."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated

from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Normal

from fusion_engine import (
    Decoder,
    DistributionLikelihood,
    Encoder,
    Features,
    ImageModality,
    Likelihood,
    Signal,
    Widths,
    over_samples,
)
from fusion_engine_image.blocks import SLOPE
from fusion_engine_image.output import Output, bounded

Layers = Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=1)]


def _layers(inputs: int, widths: Sequence[int]) -> list[nn.Module]:
    return [layer for a, b in pairwise([inputs, *widths]) for layer in (nn.Linear(a, b), nn.LeakyReLU(SLOPE))]


class MLPEncoder(Encoder):
    """Read all pixels at once.

        pooled = lrelu(linear(... lrelu(linear(x))))

    With a score head behind it, the classic discriminator of widths 1024, 512, 256, 1. No layer normalises.
    Images [b c h w] -> pooled [b widths[-1]], which is also the only token.

    Args:
        modality: the images.
        widths: of the layers, in order; a leaky ReLU of slope .2 behind each.
    """

    def __init__(self, modality: ImageModality, *, widths: Layers = (1024, 512, 256)) -> None:
        super().__init__(modality, widths[-1])
        self.body = nn.Sequential(*_layers(modality.size, widths))

    def encode(self, x: Float[Tensor, "b c h w"], signal: Signal) -> Features:
        """Encode images."""
        return Features.of_pooled(self.body(rearrange(x, "b c h w -> b (c h w)")))


class MLPDecoder(Decoder):
    """Turn z into all pixels at once: the classic generator of widths 256, 512, 1024 and c h w.

        p(x | z) = Normal(f(z), scale), independent over pixels
        f(z) = output(linear(lrelu(linear(... lrelu(linear(z))))))

    ``tanh`` is stretched to the range of the data in prepared units. z [*k b z] -> images [*k b c h w].

    Args:
        latent: the width of z.
        modality: the images.
        conditions: whose pooled vectors join z.
        widths: of the hidden layers, in order; a leaky ReLU of slope .2 behind each.
        output: tanh, or linear for no bound.
        scale: the deviation of each pixel, in units of the prepared data.
    """

    def __init__(
        self,
        latent: int,
        modality: ImageModality,
        conditions: Mapping[str, Widths] | None = None,
        *,
        widths: Layers = (256, 512, 1024),
        output: Output = "tanh",
        scale: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.scale = scale
        self.shape = modality.shape
        last = nn.Linear(widths[-1], modality.size)
        self.body = nn.Sequential(*_layers(self.inputs_width, widths), last, bounded(modality, output))

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode into a normal distribution a pixel."""
        c, h, w = self.shape
        mean = over_samples(self.body, self.joined(z, conditions))
        images = rearrange(mean, "... (c h w) -> ... c h w", c=c, h=h, w=w)
        return DistributionLikelihood(Normal(images, self.scale, validate_args=False), sample_axes=z.ndim - 2)
