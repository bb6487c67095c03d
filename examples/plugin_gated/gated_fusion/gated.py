"""Gated multimodal unit: Arevalo et al. 2017, arXiv:1702.01992."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from einops import einsum, rearrange
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Features, Fusion, Widths


class GatedFusion(Fusion):
    """Let each unit of the result choose among the inputs.

        h_i = tanh(W_i x_i),   gate = softmax_i(V [x_1 ... x_m]) over the present i,   fused = sum_i gate_i * h_i

    With two inputs the gate is the paper's sigmoid. An absent input is zero in the concatenation and has gate zero; a
    row with nothing present gives zeros. Axes: b batch, m inputs, d fused width.
    """

    min_inputs: ClassVar[int] = 2  # with one input the gate is always 1 and has nothing to learn

    def __init__(self, inputs: Mapping[str, Widths], *, width: Annotated[int, Field(ge=1)] = 128) -> None:
        super().__init__(inputs, width)
        self.hidden = nn.ModuleList(nn.Linear(w.pooled, width, bias=False) for w in inputs.values())
        self.scores = nn.Linear(sum(w.pooled for w in inputs.values()), len(inputs) * width, bias=False)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse the pooled vectors into one [b d]."""
        vectors = self.pooled(features, present)
        hidden = torch.stack([linear(x) for linear, x in zip(self.hidden, vectors, strict=True)], 1).tanh()
        scores = rearrange(self.scores(torch.cat(vectors, 1)), "b (m d) -> b m d", m=len(vectors))
        absent = ~present[:, :, None]
        gate = scores.masked_fill(absent, torch.finfo(scores.dtype).min).softmax(1).masked_fill(absent, 0.0)
        return Features.of_pooled(einsum(gate, hidden, "b m d, b m d -> b d"))
