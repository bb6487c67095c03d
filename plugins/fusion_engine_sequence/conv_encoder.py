"""A convolutional encoder of sequences, after the temporal convolutions of Bai et al., 2018, arXiv:1803.01271."""

from typing import Annotated, cast

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from fusion_engine import Encoder, Features, SequenceModality, Signal, Widths, fill

SLOPE = 0.2


class ConvEncoder(Encoder):
    """Convolve along time in both directions, residual blocks of doubling dilation; a token a step.

        x <- x + conv2(lrelu(conv1(lrelu(x))))        padded steps are zero before every convolution
        pooled = linear(lrelu([mean over steps, max over steps]))

    No layer normalises, so it serves discriminators as it is, with cheap second derivatives.
    Sequences [b n c] -> tokens [b n width], pooled [b pooled].

    Args:
        modality: the sequences.
        width: of a token.
        pooled: the width of the pooled vector.
        blocks: residual blocks; the field of view is 4 * 2^blocks - 1 steps.
    """

    def __init__(
        self,
        modality: SequenceModality,
        *,
        width: Annotated[int, Field(ge=1)] = 64,
        pooled: Annotated[int, Field(ge=1)] = 128,
        blocks: Annotated[int, Field(ge=1)] = 3,
    ) -> None:
        super().__init__(modality, Widths(width, pooled))
        self.first = nn.Conv1d(modality.channels, width, 3, padding=1)
        self.convs = nn.ModuleList(
            nn.ModuleList(nn.Conv1d(width, width, 3, padding=2**i, dilation=2**i) for _ in range(2))
            for i in range(blocks)
        )
        for block in self.convs:
            nn.init.zeros_(cast(nn.Conv1d, cast(nn.ModuleList, block)[1]).weight)
        self.pool = nn.Linear(2 * width, pooled)

    def encode(self, x: Float[Tensor, "b n c"], signal: Signal) -> Features:
        """Encode; padded steps give zeros, a row without steps a pooled vector of zero steps."""
        mask = signal.mask if signal.mask is not None else torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        valid = rearrange(mask, "b n -> b 1 n")
        h = self.first(rearrange(fill(x, mask), "b n c -> b c n"))
        for block in self.convs:
            change = h
            for conv in cast(nn.ModuleList, block):
                change = conv(leaky_relu(change, SLOPE).masked_fill(~valid, 0.0))
            h = h + change
        h = h.masked_fill(~valid, 0.0)
        mean = h.sum(-1) / valid.sum(-1).clamp(min=1)
        top = h.masked_fill(~valid, -torch.inf).amax(-1).masked_fill(~valid.any(-1), 0.0)
        pooled = self.pool(leaky_relu(torch.cat([mean, top], -1), SLOPE))
        return Features(rearrange(h, "b d n -> b n d"), pooled, mask, signal.position)
