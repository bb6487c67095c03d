"""A strided residual CNN over waveforms without normalisation, for inference and for discriminators."""

from itertools import pairwise
from typing import Annotated

from einops import rearrange
from einops.layers.torch import Rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Encoder, Features, Signal, WaveformModality, Widths
from fusion_engine_audio.blocks import SLOPE, block1d, conv1d, divided, divisions, time_positions, widths_of_stages

_COARSEST = 31
"""Time is quartered until it has at most so many cells."""


class WaveCNN(Encoder):
    """Quarter time until at most 31 cells are left, which are the tokens.

    The first convolution spans 25 samples, the further ones 9, with stride 4 as in the discriminator of WaveGAN,
    Donahue et al., ICLR 2019, arXiv:1802.04208; a residual block follows each but the first. The pooled vector is
    linear in all tokens together. No layer normalises: rows never mix, and every derivative exists.
    Sounds [b t] -> tokens [b n width], n = ceil(t / 4^s), their times [b n 1] in (-1, 1); pooled [b pooled].

    Args:
        modality: the sounds.
        width: of a token.
        pooled: the width of the pooled vector.
        channels: of the first convolution; doubled at each further quartering, up to four times.
    """

    def __init__(
        self,
        modality: WaveformModality,
        *,
        width: Annotated[int, Field(ge=1)] = 64,
        pooled: Annotated[int, Field(ge=1)] = 128,
        channels: Annotated[int, Field(ge=1)] = 16,
    ) -> None:
        super().__init__(modality, Widths(width, pooled))
        stages = divisions(modality.samples, 4, _COARSEST)
        cells = divided(modality.samples, 4, stages)
        inner = widths_of_stages(channels, stages - 1)
        layers: list[nn.Module] = [conv1d(1, channels, size=25, stride=4)]
        for before, after in pairwise(inner):
            layers += [nn.LeakyReLU(SLOPE), conv1d(before, after, size=9, stride=4), block1d(after)]
        folded = [nn.LeakyReLU(SLOPE), Rearrange("b c t -> b t c"), nn.Linear(inner[-1], width)]
        self.body = nn.Sequential(*layers, *folded)
        self.position: Tensor
        self.register_buffer("position", time_positions(cells), persistent=False)
        self.pool = nn.Sequential(nn.LeakyReLU(SLOPE), nn.Linear(width * cells, pooled))

    def encode(self, x: Float[Tensor, "b t"], signal: Signal) -> Features:
        """Encode sounds; every token is valid."""
        tokens = self.body(rearrange(x, "b t -> b 1 t"))
        pooled = self.pool(rearrange(tokens, "b n d -> b (n d)"))
        position = self.position.expand(len(x), -1, -1)
        return Features(tokens, pooled, tokens.new_ones(tokens.shape[:2]).bool(), position)
