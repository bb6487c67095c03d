"""The convolutional networks of DCGAN: Radford et al., ICLR 2016, arXiv:1511.06434."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated

from einops import rearrange
from einops.layers.torch import Rearrange
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
from fusion_engine_image.blocks import SLOPE, grid_positions, halved, halvings
from fusion_engine_image.output import Output, bounded

Channels = Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=1)]


def stages_of(widths: Sequence[int], stages: int) -> list[int]:
    """Return the channels behind each halving: the first widths; the last one stands for all that are left out."""
    return [widths[min(i, len(widths) - 1)] for i in range(stages)]


def _drawn(layer: nn.Conv2d | nn.ConvTranspose2d, batch_norm: bool, slope: float) -> nn.Module:
    """Draw a kernel: of deviation .02, as in the paper, before BatchNorm, else so that the variance stays.

    An output of a transposed convolution sees one of stride² parts of the kernel.
    """
    seen = layer.in_channels * math.prod(layer.kernel_size)
    if isinstance(layer, nn.ConvTranspose2d):
        seen //= math.prod(layer.stride)
    nn.init.normal_(layer.weight, 0, 0.02 if batch_norm else math.sqrt(2 / (1 + slope**2) / seen))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class DCGANEncoder(Encoder):
    """Halve the image by strided 4x4 convolutions until its shorter side is at most 4.

        lrelu(norm(conv_4x4/2(x))) a stage, no norm behind the first; pooled = linear(cells)

    An image whose sides are no multiple of 2^stages is padded with zeros on the right and below. The pooled vector
    is linear in all cells together, so that with a linear score head behind it the network is the paper's
    discriminator. The paper normalises by BatchNorm; without it, the default, rows never mix.
    Images [b c h w] -> tokens [b n widths[stages - 1]], n = ceil(h / 2^s) ceil(w / 2^s); pooled [b pooled].

    Args:
        modality: the images.
        widths: channels behind each halving; the first ones are used, and the last stands for further ones.
        pooled: the width of the pooled vector.
        batch_norm: normalise over the batch behind every convolution but the first.
    """

    def __init__(
        self,
        modality: ImageModality,
        *,
        widths: Channels = (64, 128, 256, 512),
        pooled: Annotated[int, Field(ge=1)] = 128,
        batch_norm: bool = False,
    ) -> None:
        c, h, w = modality.shape
        stages = halvings(h, w)
        channels = stages_of(widths, stages)
        super().__init__(modality, Widths(channels[-1], pooled))
        gh, gw = halved(h, stages), halved(w, stages)
        layers: list[nn.Module] = [nn.ZeroPad2d((0, (gw << stages) - w, 0, (gh << stages) - h))]
        for i, (before, after) in enumerate(pairwise([c, *channels])):
            normed = batch_norm and i > 0
            layers.append(_drawn(nn.Conv2d(before, after, 4, 2, 1, bias=not normed), batch_norm, SLOPE))
            layers += [*([nn.BatchNorm2d(after)] if normed else []), nn.LeakyReLU(SLOPE)]
        self.body = nn.Sequential(*layers)
        self.position: Tensor
        self.register_buffer("position", grid_positions(gh, gw), persistent=False)
        self.pool = nn.Linear(channels[-1] * gh * gw, pooled)

    def encode(self, x: Float[Tensor, "b c h w"], signal: Signal) -> Features:
        """Encode images; every token is valid."""
        tokens = rearrange(self.body(x), "b d h w -> b (h w) d")
        pooled = self.pool(rearrange(tokens, "b n d -> b (n d)"))
        position = self.position.expand(len(x), -1, -1)
        return Features(tokens, pooled, tokens.new_ones(tokens.shape[:2]).bool(), position)


class DCGANDecoder(Decoder):
    """Grow an image from a grid whose shorter side is at most 4 by strided 4x4 transposed convolutions.

        relu(norm(linear(z))) on the grid, relu(norm(deconv_4x4/2(x))) a stage, output(deconv_4x4/2(x)) last
        p(x | z) = Normal(f(z), scale), independent over pixels

    The last doubling may overshoot: what is too much is cropped on the right and below. ``tanh`` is stretched to the
    range of the data in prepared units. z [*k b z] -> images [*k b c h w].

    Args:
        latent: the width of z.
        modality: the images.
        conditions: whose pooled vectors join z.
        widths: channels of the grids, from the largest to the smallest; the first ones are used, and the last stands
            for further ones. The image itself is not among them.
        batch_norm: normalise over the batch behind every layer but the last, as in the paper.
        output: tanh, or linear for no bound.
        scale: the deviation of each pixel, in units of the prepared data.
    """

    def __init__(
        self,
        latent: int,
        modality: ImageModality,
        conditions: Mapping[str, Widths] | None = None,
        *,
        widths: Channels = (64, 128, 256, 512),
        batch_norm: bool = False,
        output: Output = "tanh",
        scale: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.scale = scale
        c, h, w = self.shape = modality.shape
        stages = halvings(h, w)
        channels = stages_of(widths, stages)[::-1]
        gh, gw = halved(h, stages), halved(w, stages)

        def behind(width: int) -> list[nn.Module]:
            return [*([nn.BatchNorm2d(width)] if batch_norm else []), nn.ReLU()]

        first = nn.Linear(self.inputs_width, channels[0] * gh * gw, bias=not batch_norm)
        layers: list[nn.Module] = [first, Rearrange("r (c h w) -> r c h w", h=gh, w=gw), *behind(channels[0])]
        for before, after in pairwise(channels):
            up = nn.ConvTranspose2d(before, after, 4, 2, 1, bias=not batch_norm)
            layers += [_drawn(up, batch_norm, 0.0), *behind(after)]
        layers.append(_drawn(nn.ConvTranspose2d(channels[-1], c, 4, 2, 1), batch_norm, 0.0))
        self.body = nn.Sequential(*layers)
        self.last = bounded(modality, output)

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode into a normal distribution a pixel."""
        _, h, w = self.shape
        mean = self.last(over_samples(self.body, self.joined(z, conditions))[..., :h, :w])
        return DistributionLikelihood(Normal(mean, self.scale, validate_args=False), sample_axes=z.ndim - 2)
