"""A Transformer encoder of sequences: Vaswani et al., NeurIPS 2017, arXiv:1706.03762."""

import math
from typing import Annotated

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

from fusion_engine import ConfigError, Encoder, Features, SequenceModality, Signal, fill


class TransformerEncoder(Encoder):
    """Attend between the steps of a sequence; a token a step, a learned first token as the pooled vector.

    Positions are sines and cosines of the step's index. The first token is always a valid key: a row without steps
    attends to it alone. Layers normalise first, and each token by itself, so that rows never mix.
    Its second derivatives exist under the plain attention kernel (``SDPBackend.MATH``) only.
    Sequences [b n c] -> tokens [b n width], pooled [b width].

    Args:
        modality: the sequences.
        width: of a token, a multiple of ``heads``.
        layers: of attention and feed-forward network.
        heads: of attention.
        dropout: while training.
    """

    def __init__(
        self,
        modality: SequenceModality,
        *,
        width: Annotated[int, Field(ge=2)] = 64,
        layers: Annotated[int, Field(ge=1)] = 2,
        heads: Annotated[int, Field(ge=1)] = 4,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__(modality, width)
        if width % heads or width % 2:
            raise ConfigError(
                "`width` must be even and a multiple of `heads`",
                expected=f"a multiple of {math.lcm(heads, 2)}",
                actual=f"{width}",
            )
        self.linear = nn.Linear(modality.channels, width)
        self.first = nn.Parameter(torch.randn(width) * width**-0.5)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)

    def encode(self, x: Float[Tensor, "b n c"], signal: Signal) -> Features:
        """Encode; padded steps give zeros."""
        mask = signal.mask if signal.mask is not None else torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        steps = self.linear(fill(x, mask))
        steps = steps + sinusoids(steps.shape[1], steps.shape[2]).to(steps)
        tokens = torch.cat([repeat(self.first, "d -> b 1 d", b=len(x)), steps], 1)
        valid = pad(mask, (1, 0), value=True)
        out = self.body(tokens, src_key_padding_mask=~valid)
        return Features(fill(out[:, 1:], mask), out[:, 0], mask, signal.position)


def sinusoids(n: int, width: int) -> Float[Tensor, "n d"]:
    """Return sin and cos of t / 10000^(2i/width), for t = 0 ... n - 1."""
    frequencies = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = torch.arange(n)[:, None] * frequencies
    return rearrange(torch.stack([angles.sin(), angles.cos()], -1), "n i two -> n (i two)")
