"""Attention bottlenecks (MBT): Nagrani et al., NeurIPS 2021, arXiv:2107.00135."""

from collections.abc import Mapping
from typing import Annotated, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import BuildError, Features, Fusion, Widths, fill
from fusion_engine_fusions.attention import check_heads


class BottleneckFusion(Fusion):
    """Let inputs exchange what fits through a few shared tokens, in the upper layers of a transformer for each.

        x_i            = [cls_i, linear_i(tokens_i)]
        x_i            = layer_i(x_i)                            below layer ``fusion_from``
        [x_i, bneck_i] = layer_i([x_i, bneck]);  bneck = mean over present i of bneck_i      from there on
        pooled         = mean over present i of norm(cls_i)

    Where a token stands within its input is the encoder's affair. Absent inputs take no part in either mean; a row with
    nothing present pools to zeros. The tokens of all inputs come back in wiring order [b n_1+...+n_m d], without CLS.
    Axes: b batch, m inputs, n tokens, q bottlenecks, d width.

    Args:
        inputs: the widths of each input.
        width: of tokens and pooled vector.
        heads: attention heads; divides the width.
        depth: layers, each attention and a feed-forward of four times the width, normed first.
        fusion_from: how many of them an input goes through alone. At least two must be left: what one layer writes into
            the bottlenecks the next one reads.
        bottlenecks: shared tokens; the paper has four.
        dropout: within the layers.

    Raises:
        BuildError: heads does not divide width, or fewer than two layers are left to fuse.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        width: Annotated[int, Field(ge=1)] = 128,
        heads: Annotated[int, Field(ge=1)] = 4,
        depth: Annotated[int, Field(ge=2)] = 3,
        fusion_from: Annotated[int, Field(ge=0)] = 1,
        bottlenecks: Annotated[int, Field(ge=1)] = 4,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        check_heads(width, heads)
        _check_fusion_from(depth, fusion_from)
        super().__init__(inputs, width)
        self.fusion_from = fusion_from
        self.linears = nn.ModuleList(nn.Linear(w.tokens, width) for w in inputs.values())
        self.cls = nn.Parameter(torch.randn(len(inputs), width) * 0.02)
        self.bottlenecks = nn.Parameter(torch.randn(bottlenecks, width) * 0.02)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
                for _ in inputs
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; bottlenecks stay as they were in rows with nothing present."""
        found = self.tokens(features, present)
        masks = [mask for _, mask in found]
        shared = self.bottlenecks.expand(len(present), -1, -1)
        xs = [
            torch.cat([cls.expand(len(x), 1, -1), linear(x)], 1)
            for cls, linear, (x, _) in zip(self.cls, self.linears, found, strict=True)
        ]
        for index, layers in enumerate(self.layers):
            fuses = index >= self.fusion_from
            steps = zip(cast(nn.ModuleList, layers), xs, masks, strict=True)
            pairs = [_step(layer, x, mask, shared if fuses else shared[:, :0]) for layer, x, mask in steps]
            xs = [x for x, _ in pairs]
            if fuses:
                mean = _mean([own for _, own in pairs], present)
                shared = torch.where(present.any(1)[:, None, None], mean, shared)
        normed = [self.norm(x) for x in xs]
        mask = torch.cat(masks, 1)
        pooled = rearrange(_mean([x[:, :1] for x in normed], present), "b 1 d -> b d")
        return Features(fill(torch.cat([x[:, 1:] for x in normed], 1), mask), pooled, mask)


def _step(
    layer: nn.Module, x: Float[Tensor, "b n_1 d"], mask: Bool[Tensor, "b n"], shared: Float[Tensor, "b q d"]
) -> tuple[Float[Tensor, "b n_1 d"], Float[Tensor, "b q d"]]:
    """Take one input, and the bottlenecks with it, through its layer; CLS and bottlenecks are always keys."""
    ones = mask.new_ones(len(mask), 1)
    keys = torch.cat([ones, mask, ones.expand(-1, shared.shape[1])], 1)
    out: Tensor = layer(torch.cat([x, shared], 1), src_key_padding_mask=~keys)
    return out[:, : x.shape[1]], out[:, x.shape[1] :]


def _mean(parts: list[Float[Tensor, "b q d"]], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b q d"]:
    """Average over the inputs that a row has; zeros where it has none."""
    total = fill(torch.stack(parts, 1), present).sum(1)
    return total / present.sum(1).clamp(min=1)[:, None, None]


def _check_fusion_from(depth: int, fusion_from: int) -> None:
    if fusion_from > depth - 2:
        raise BuildError(
            "the inputs never exchange anything",
            expected="two layers or more from 'fusion_from' on",
            actual=f"depth {depth}, fusion_from {fusion_from}",
            fix=f"fusion_from {depth - 2} or less, or depth {fusion_from + 2}",
        )
