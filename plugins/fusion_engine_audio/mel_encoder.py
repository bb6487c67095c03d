"""A small residual CNN over spectrograms without normalisation, for inference and for discriminators."""

from itertools import pairwise
from typing import Annotated

from einops import rearrange
from einops.layers.torch import Rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Encoder, Features, Signal, SpectrogramModality, Widths
from fusion_engine_audio.blocks import SLOPE, block2d, conv2d, divided, divisions, time_positions, widths_of_stages

_COARSEST = 7
"""Time and frequency are halved until the shorter of them has at most so many cells."""


class MelCNN(Encoder):
    """Halve time and frequency until the shorter has at most 7 cells; a token is a cell of time with all its bands.

    The first convolution halves both axes; from then on a residual block follows each halving. The pooled vector is
    linear in all tokens together, so that it knows when things are heard. No layer normalises: rows never mix, and
    every derivative exists. Residual design after R3GAN, Huang et al., NeurIPS 2024, arXiv:2501.05441.
    Spectrograms [b t f] -> tokens [b n width], n = ceil(t / 2^s), their times [b n 1] in (-1, 1); pooled [b pooled].

    Args:
        modality: the spectrograms.
        width: of a token.
        pooled: the width of the pooled vector.
        channels: of the first convolution; doubled at each further halving, up to four times.
    """

    def __init__(
        self,
        modality: SpectrogramModality,
        *,
        width: Annotated[int, Field(ge=1)] = 64,
        pooled: Annotated[int, Field(ge=1)] = 128,
        channels: Annotated[int, Field(ge=1)] = 16,
    ) -> None:
        super().__init__(modality, Widths(width, pooled))
        t, f = modality.frames, modality.bands
        stages = divisions(min(t, f), 2, _COARSEST)
        cells, bands = divided(t, 2, stages), divided(f, 2, stages)
        inner = widths_of_stages(channels, stages - 1)
        layers: list[nn.Module] = [conv2d(1, channels, size=5, stride=2)]
        for before, after in pairwise(inner):
            layers += [nn.LeakyReLU(SLOPE), conv2d(before, after, stride=2), block2d(after)]
        folded = [nn.LeakyReLU(SLOPE), Rearrange("b c t f -> b t (f c)"), nn.Linear(inner[-1] * bands, width)]
        self.body = nn.Sequential(*layers, *folded)
        self.position: Tensor
        self.register_buffer("position", time_positions(cells), persistent=False)
        self.pool = nn.Sequential(nn.LeakyReLU(SLOPE), nn.Linear(width * cells, pooled))

    def encode(self, x: Float[Tensor, "b t f"], signal: Signal) -> Features:
        """Encode spectrograms; every token is valid."""
        tokens = self.body(rearrange(x, "b t f -> b 1 t f"))
        pooled = self.pool(rearrange(tokens, "b n d -> b (n d)"))
        position = self.position.expand(len(x), -1, -1)
        return Features(tokens, pooled, tokens.new_ones(tokens.shape[:2]).bool(), position)
