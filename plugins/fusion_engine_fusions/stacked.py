"""Many small transformers of one shape in one call: the weights of all are stacked on a leading axis s.

The number of operators does not depend on how many there are.
Axes: s transformers, b batch, n tokens that ask, k tokens that are asked, d width, h heads.
"""

import math
from typing import cast

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from fusion_engine import fill
from fusion_engine_fusions.attention import guarded


class StackedLinear(nn.Module):
    """y_s = x_s W_s + b_s, started like nn.Linear.

    Args:
        stack: s, how many.
        d_in: the width of x.
        d_out: the width of y.
    """

    def __init__(self, stack: int, d_in: int, d_out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(d_in)
        self.weight = nn.Parameter(torch.empty(stack, d_in, d_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(stack, d_out).uniform_(-bound, bound))

    def forward(self, x: Float[Tensor, "s b n d"]) -> Float[Tensor, "s b n e"]:
        """Map each by its own weights."""
        return einsum(x, self.weight, "s b n d, s d e -> s b n e") + self.bias[:, None, None]


class StackedNorm(nn.Module):
    """Layer normalisation with weights of its own for each of the stack (Ba et al., 2016, arXiv:1607.06450).

    Args:
        stack: s, how many.
        width: d.
    """

    def __init__(self, stack: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(stack, width))
        self.bias = nn.Parameter(torch.zeros(stack, width))

    def forward(self, x: Float[Tensor, "s b n d"]) -> Float[Tensor, "s b n d"]:
        """Normalise each token."""
        return functional.layer_norm(x, x.shape[-1:]) * self.weight[:, None, None] + self.bias[:, None, None]


class StackedAttention(nn.Module):
    """Multi-head attention of the tokens x to the tokens y; a row without a key gets zeros.

        out_s = concat_h softmax(q_h k_h^T / sqrt(d / h)) v_h W_s + b_s,   q = linear(x), (k, v) = linear(y)

    Args:
        stack: s, how many.
        width: d.
        heads: h, divides d.
    """

    def __init__(self, stack: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries = StackedLinear(stack, width, width)
        self.keys_values = StackedLinear(stack, width, 2 * width)
        self.out = StackedLinear(stack, width, width)

    def forward(
        self, x: Float[Tensor, "s b n d"], y: Float[Tensor, "s b k d"], keys: Bool[Tensor, "s b k"]
    ) -> Float[Tensor, "s b n d"]:
        """Attend to the valid keys."""
        opened, some = guarded(keys)
        q, k, v = (
            rearrange(part, "s b n (h e) -> (s b) h n e", h=self.heads)
            for part in (self.queries(x), *self.keys_values(y).chunk(2, -1))
        )
        mask = rearrange(opened, "s b k -> (s b) 1 1 k")
        found = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        joined = self.out(rearrange(found, "(s b) h n e -> s b n (h e)", s=len(x)))
        return fill(joined, some)


class StackedLayer(nn.Module):
    """A transformer layer, normed first.

        x <- x + attention(norm(x), norm(y));   x <- x + linear(relu(linear(norm(x))))

    Args:
        stack: s, how many.
        width: d; the feed-forward is four times as wide.
        heads: of attention.
        dropout: of what is added.
    """

    def __init__(self, stack: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = StackedNorm(stack, width)
        self.attention = StackedAttention(stack, width, heads)
        self.feed = nn.Sequential(
            StackedNorm(stack, width),
            StackedLinear(stack, width, 4 * width),
            nn.ReLU(),
            StackedLinear(stack, 4 * width, width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "s b n d"], y: Float[Tensor, "s b k d"], keys: Bool[Tensor, "s b k"]
    ) -> Float[Tensor, "s b n d"]:
        """Add to x what it finds in y, and what it makes of that."""
        x = x + self.dropout(self.attention(self.norm(x), self.norm(y), keys))
        return x + cast(Tensor, self.dropout(self.feed(x)))


class StackedTransformer(nn.Module):
    """Layers, and a norm behind them.

    Args:
        stack: s, how many.
        width: d.
        heads: of attention.
        depth: layers.
        dropout: within the layers.
    """

    def __init__(self, stack: int, width: int, heads: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(StackedLayer(stack, width, heads, dropout) for _ in range(depth))
        self.norm = StackedNorm(stack, width)

    def forward(
        self, x: Float[Tensor, "s b n d"], keys: Bool[Tensor, "s b k"], source: Float[Tensor, "s b k d"] | None = None
    ) -> Float[Tensor, "s b n d"]:
        """Let x attend, in every layer, to the source as it came, or to itself where there is none."""
        for layer in self.layers:
            x = layer(x, x if source is None else source, keys)
        return cast(Tensor, self.norm(x))
