"""A small residual CNN without normalisation, for inference and for discriminators."""

from itertools import pairwise
from typing import Annotated

from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Encoder, Features, ImageModality, Signal, Widths
from fusion_engine_image.blocks import SLOPE, ResidualBlock, conv, grid_positions, halved, halvings, widths_of_stages


class ConvEncoder(Encoder):
    """Halve the image until its shorter side is at most 4, one residual block a stage.

    Tokens are the cells of that grid, row by row, with their positions; the pooled vector is linear in all of them
    together, so that it knows where things are. No layer normalises: rows never mix, and every derivative exists.
    Residual design after R3GAN, Huang et al., NeurIPS 2024, arXiv:2501.05441.
    Images [b c h w] -> tokens [b n width], n = ceil(h / 2^s) ceil(w / 2^s); pooled [b pooled].

    Args:
        modality: the images.
        width: of a token.
        pooled: the width of the pooled vector.
        channels: of the first convolution; doubled at each halving, up to four times.
    """

    def __init__(
        self,
        modality: ImageModality,
        *,
        width: Annotated[int, Field(ge=1)] = 64,
        pooled: Annotated[int, Field(ge=1)] = 128,
        channels: Annotated[int, Field(ge=1)] = 16,
    ) -> None:
        super().__init__(modality, Widths(width, pooled))
        c, h, w = modality.shape
        stages = halvings(h, w)
        inner = widths_of_stages(channels, stages)
        layers: list[nn.Module] = [conv(c, channels)]
        for before, after in pairwise(inner):
            layers += [nn.LeakyReLU(SLOPE), conv(before, after, stride=2), ResidualBlock(after)]
        self.body = nn.Sequential(*layers, nn.LeakyReLU(SLOPE), conv(inner[-1], width, size=1))
        grid = grid_positions(halved(h, stages), halved(w, stages))
        self.position: Tensor
        self.register_buffer("position", grid, persistent=False)
        self.pool = nn.Sequential(nn.LeakyReLU(SLOPE), nn.Linear(width * len(grid), pooled))

    def encode(self, x: Float[Tensor, "b c h w"], signal: Signal) -> Features:
        """Encode images; every token is valid."""
        tokens = rearrange(self.body(x), "b d h w -> b (h w) d")
        pooled = self.pool(rearrange(tokens, "b n d -> b (n d)"))
        position = self.position.expand(len(x), -1, -1)
        return Features(tokens, pooled, tokens.new_ones(tokens.shape[:2]).bool(), position)
