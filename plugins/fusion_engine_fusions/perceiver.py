"""A few learned latents that read all tokens (Perceiver): Jaegle et al., ICML 2021, arXiv:2103.03206."""

from collections.abc import Mapping
from typing import Annotated, cast

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Features, Fusion, Widths
from fusion_engine_fusions.attention import check_heads, guarded
from fusion_engine_fusions.mlp import mlp


class PerceiverFusion(Fusion):
    """Let learned latents ask the tokens of all inputs, then each other; the cost is linear in the number of tokens.

        y      = [linear_1(tokens_1) + kind_1, ..., linear_m(tokens_m) + kind_m]
        x      = latents;  for each block:  x <- x + attention(norm(x), norm(y));  x <- x + mlp(norm(x));  x <- layer(x)
        tokens = norm(x),  pooled = mean over the latents

    kind_i is a learned embedding of the input; where a token stands within its input is the encoder's affair. Blocks
    do not share weights. Absent inputs and padding are masked keys; to a row with nothing present the cross attention
    adds zero. The latents come back as the tokens [b l d], all valid.
    Axes: b batch, m inputs, n tokens of all inputs, l latents, d width.

    Args:
        inputs: the widths of each input.
        width: of tokens and pooled vector.
        latents: l.
        heads: attention heads; divides the width.
        depth: blocks.
        dropout: of attention, and within the latents' layers.

    Raises:
        BuildError: heads does not divide width.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        width: Annotated[int, Field(ge=1)] = 128,
        latents: Annotated[int, Field(ge=1)] = 16,
        heads: Annotated[int, Field(ge=1)] = 4,
        depth: Annotated[int, Field(ge=1)] = 2,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        check_heads(width, heads)
        super().__init__(inputs, width)
        self.linears = nn.ModuleList(nn.Linear(w.tokens, width) for w in inputs.values())
        self.kinds = nn.Parameter(torch.randn(len(inputs), width) * 0.02)
        self.latents = nn.Parameter(torch.randn(latents, width) * 0.02)
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present has its latents alone."""
        found = self.tokens(features, present)
        embedded = [linear(x) + kind for linear, kind, (x, _) in zip(self.linears, self.kinds, found, strict=True)]
        y, keys = torch.cat(embedded, 1), torch.cat([mask for _, mask in found], 1)
        x = self.latents.expand(len(present), -1, -1)
        for block in self.blocks:
            x = block(x, y, keys)
        return Features.of_tokens(self.norm(x))


class _Block(nn.Module):
    """Ask the tokens, feed forward, then let the latents ask each other."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_latents, self.norm_tokens = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.feed = nn.Sequential(nn.LayerNorm(width), mlp(width, 4 * width, width, activation="gelu"))
        self.layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True
        )

    def forward(
        self, x: Float[Tensor, "b l d"], y: Float[Tensor, "b n d"], keys: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b l d"]:
        """Return the latents with what they found."""
        opened, some = guarded(keys)
        asked = self.norm_tokens(y)
        found, _ = self.attention(self.norm_latents(x), asked, asked, key_padding_mask=~opened, need_weights=False)
        x = x + found.masked_fill(~some[:, None, None], 0.0)
        x = x + self.feed(x)
        return cast(Tensor, self.layer(x))
