"""Crossmodal transformers (MulT): Tsai et al., ACL 2019, arXiv:1906.00295."""

from collections.abc import Mapping
from itertools import permutations
from typing import Annotated

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

from fusion_engine import Features, Fusion, Widths, fill
from fusion_engine_fusions.attention import check_heads
from fusion_engine_fusions.stacked import StackedTransformer


class CrossmodalFusion(Fusion):
    """Let the tokens of each input attend to those of each other input, pair by pair, whatever their lengths.

        x_a       = linear_a(tokens_a)                                      [b n_a d]
        y_ab      = crossmodal_ab(x_a, x_b), whose layers all ask x_b        [b n_a d]
        h_a       = transformer_a([y_ab for b != a])                        [b n_a (m-1)d];  of x_a, if it is alone
        pooled    = linear([mean_n h_1, ..., mean_n h_m]);  a token of input a is its part of that sum, h_a W_a

    The mean over valid tokens stands where the paper takes the last one: not all tokens have an order. Where a token
    stands within its input is the encoder's affair. A missing source adds nothing to what asks it; a missing target's
    mean is a learned placeholder. The tokens of all inputs come back in wiring order [b n_1+...+n_m width].

    The weights of all m (m - 1) pairs are stacked and every input is padded to the longest, so that the operators grow
    with m alone; memory grows with the pairs.
    Axes: b batch, m inputs, n tokens, s pairs, d inner width, e = max(m - 1, 1) d.

    Args:
        inputs: the widths of each input.
        width: of tokens and pooled vector.
        inner: d, the width of each pair's transformer.
        heads: attention heads; divides inner.
        depth: layers of each transformer.
        dropout: of what layers add.

    Raises:
        BuildError: heads does not divide inner.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        width: Annotated[int, Field(ge=1)] = 128,
        inner: Annotated[int, Field(ge=1)] = 40,
        heads: Annotated[int, Field(ge=1)] = 4,
        depth: Annotated[int, Field(ge=1)] = 2,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        check_heads(inner, heads, "inner")
        super().__init__(inputs, width)
        m, pairs = len(inputs), list(permutations(range(len(inputs)), 2))
        joined = max(m - 1, 1) * inner
        self.targets: Tensor
        self.sources: Tensor
        self.register_buffer("targets", torch.tensor([a for a, _ in pairs], dtype=torch.long), persistent=False)
        self.register_buffer("sources", torch.tensor([b for _, b in pairs], dtype=torch.long), persistent=False)
        self.linears = nn.ModuleList(nn.Linear(w.tokens, inner) for w in inputs.values())
        self.crossmodal = StackedTransformer(len(pairs), inner, heads, depth, dropout) if pairs else None
        self.transformer = StackedTransformer(m, joined, heads, depth, dropout)
        self.placeholders = nn.Parameter(torch.zeros(m, joined))
        self.out = nn.Linear(m * joined, width)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present is made of placeholders alone."""
        x, mask = self._padded(features, present)
        h = fill(self.transformer(self._crossed(x, mask), mask), mask)
        mean = h.sum(2) / mask.sum(2).clamp(min=1)[..., None]
        mean = torch.where(mask.any(2)[..., None], mean, self.placeholders[:, None])
        weights = rearrange(self.out.weight, "d (m e) -> m e d", m=len(h))
        tokens = einsum(h, weights, "m b n e, m e d -> m b n d")
        lengths = [features[name].mask.shape[1] for name in self.inputs]
        return Features(
            torch.cat([t[:, :n] for t, n in zip(tokens, lengths, strict=True)], 1),
            self.out(rearrange(mean, "m b e -> b (m e)")),
            torch.cat([v[:, :n] for v, n in zip(mask, lengths, strict=True)], 1),
        )

    def _padded(
        self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]
    ) -> tuple[Float[Tensor, "m b n d"], Bool[Tensor, "m b n"]]:
        """Give all inputs one width and, by padding, one length."""
        found = self.tokens(features, present)
        n = max(mask.shape[1] for _, mask in found)
        embedded = [linear(x) for linear, (x, _) in zip(self.linears, found, strict=True)]
        x = torch.stack([pad(e, (0, 0, 0, n - e.shape[1])) for e in embedded])
        return x, torch.stack([pad(mask, (0, n - mask.shape[1])) for _, mask in found])

    def _crossed(self, x: Float[Tensor, "m b n d"], mask: Bool[Tensor, "m b n"]) -> Float[Tensor, "m b n e"]:
        """Join, for each target, what its tokens found in each source."""
        if self.crossmodal is None:
            return x
        y = self.crossmodal(x[self.targets], mask[self.sources], x[self.sources])
        joined: Tensor = rearrange(y, "(m other) b n d -> m b n (other d)", m=len(x))
        return joined
