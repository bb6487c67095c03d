"""Gated multimodal units: Arevalo et al. 2017, arXiv:1702.01992, section 3.1."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Features, Fusion, Widths
from fusion_engine_fusions.placeholders import placeholders, replaced


class GatedFusion(Fusion):
    """Let gates that see all inputs decide, width by width, how much of each input passes.

        h_i = tanh(W_i x_i + a_i),  z_i = sigmoid(V_i [x_1, ..., x_m] + c_i),  fused = sum_i z_i * h_i

    Of two inputs the gates are tied, as in the paper: z_1 = z, z_2 = 1 - z. The biases a, c are ours.
    A missing input adds nothing, and the gates see a learned placeholder in its place; a row with nothing present
    gives zeros.
    Axes: b batch, m inputs, d width.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike.
    """

    def __init__(self, inputs: Mapping[str, Widths], *, width: Annotated[int, Field(ge=1)] = 128) -> None:
        super().__init__(inputs, width)
        self.tied = len(inputs) == 2
        sizes = [w.pooled for w in inputs.values()]
        self.placeholders = placeholders(inputs)
        self.linears = nn.ModuleList(nn.Linear(d, width) for d in sizes)
        self.gate = nn.Linear(sum(sizes), width * (1 if self.tied else len(sizes)))

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present gives zeros."""
        vectors = self.pooled(features, present)
        hidden = torch.stack([linear(x) for linear, x in zip(self.linears, vectors, strict=True)], 1).tanh()
        hidden = hidden.masked_fill(~present[..., None], 0.0)
        gates = self.gates(replaced(vectors, self.placeholders, present))
        return Features.of_pooled(einsum(gates, hidden, "b m d, b m d -> b d"))

    def gates(self, vectors: Sequence[Float[Tensor, "b _d"]]) -> Float[Tensor, "b m d"]:
        """Open each input's gate, between 0 and 1, from the vectors of all inputs."""
        z = self.gate(torch.cat(list(vectors), -1)).sigmoid()
        z = rearrange(z, "b (m d) -> b m d", d=self.widths.pooled)
        return torch.cat([z, 1 - z], 1) if self.tied else z
