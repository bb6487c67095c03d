"""Token-level late fusion: one Transformer over the tokens of all inputs, Vaswani et al. 2017, arXiv:1706.03762."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import BuildError, Features, Fusion, Widths, fill


class SelfAttentionFusion(Fusion):
    """Let the tokens of all inputs attend to each other, and to a CLS token that becomes the pooled vector.

        sequence = [cls, linear_1(tokens_1) + kind_1, ..., linear_m(tokens_m) + kind_m]

    kind_i is a learned embedding of the modality; where a token stands within its modality is the encoder's affair.
    Absent inputs and padding are masked keys. CLS is always a key, so that a row with nothing present is finite. The
    tokens of all inputs come back in wiring order [b n_1+...+n_m d], without CLS.
    Axes: b batch, n tokens, m inputs, d width.

    Args:
        inputs: the widths of each input.
        width: of tokens and pooled vector.
        heads: attention heads; divides the width.
        depth: layers, each attention and a feed-forward of four times the width, normed first.
        dropout: within the layers.

    Raises:
        BuildError: heads does not divide width.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        width: Annotated[int, Field(ge=1)] = 128,
        heads: Annotated[int, Field(ge=1)] = 4,
        depth: Annotated[int, Field(ge=1)] = 2,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        if width % heads:
            expected, actual = "heads that divide width", f"width {width}, heads {heads}"
            raise BuildError(
                "the heads do not share the width evenly", expected=expected, actual=actual, fix=_fix(width, heads)
            )
        super().__init__(inputs, width)
        self.linears = nn.ModuleList(nn.Linear(w.tokens, width) for w in inputs.values())
        self.kinds = nn.Parameter(torch.randn(len(inputs), width) * 0.02)
        self.cls = nn.Parameter(torch.randn(width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present has CLS alone."""
        found = self.tokens(features, present)
        embedded = [linear(x) + kind for linear, kind, (x, _) in zip(self.linears, self.kinds, found, strict=True)]
        cls = self.cls.expand(len(present), 1, -1)
        mask = torch.cat([valid for _, valid in found], 1)
        keys = torch.cat([mask.new_ones(len(mask), 1), mask], 1)
        out = self.layers(torch.cat([cls, *embedded], 1), src_key_padding_mask=~keys)
        return Features(fill(out[:, 1:], mask), out[:, 0], mask)


def _fix(width: int, heads: int) -> str:
    divisor = max(h for h in range(1, heads + 1) if width % h == 0)
    return f"heads {divisor}, or width {-(-width // heads) * heads}"
