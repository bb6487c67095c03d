"""A Transformer decoder of texts, token after token."""

from collections.abc import Mapping
from typing import Annotated

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from fusion_engine import ConfigError, Decoder, Features, Likelihood, TextModality, Widths
from fusion_engine_text.likelihood import TextLikelihood
from fusion_engine_text.network import State, TokenNetwork
from fusion_engine_text.tokens import embed_tokens


class TransformerDecoder(Decoder):
    """Predict each token from z and the tokens before it by causal attention; z is the token before the first.

    Layers normalise first; places have learned vectors (Radford et al., 2019, GPT-2). One by one, keys and values of
    the tokens before are kept.
    z [*k b z] -> texts [*k b n] with n the modality's length.

    Args:
        latent: the width of z.
        modality: the texts.
        conditions: whose pooled vectors join z.
        width: of a token, a multiple of ``heads``.
        layers: of attention and feed-forward network.
        heads: of attention.
        forget: the share of tokens that are withheld while training, so that z is read.
    """

    def __init__(
        self,
        latent: int,
        modality: TextModality,
        conditions: Mapping[str, Widths] | None = None,
        *,
        width: Annotated[int, Field(ge=2)] = 64,
        layers: Annotated[int, Field(ge=1)] = 2,
        heads: Annotated[int, Field(ge=1)] = 2,
        forget: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__(latent, modality, conditions)
        if width % heads:
            raise ConfigError(
                "`width` must be a multiple of `heads`", expected=f"a multiple of {heads}", actual=f"{width}"
            )
        self.texts = modality
        self.network = CausalNetwork(
            self.inputs_width, modality.vocabulary, modality.length, width, layers, heads, forget
        )

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode; the network runs when the likelihood is asked."""
        return TextLikelihood(self.network, self.joined(z, conditions), self.texts)


class CausalNetwork(TokenNetwork):
    """Layers of causal attention over z and the tokens behind it.

    Args:
        latent: the width of z with the conditions.
        vocabulary: the number of tokens.
        length: the most tokens; the last is never predicted.
        width: of a token.
        layers: of attention and feed-forward network.
        heads: of attention.
        forget: the share of tokens before that ``teach`` withholds in training mode.
    """

    def __init__(
        self, latent: int, vocabulary: int, length: int, width: int, layers: int, heads: int, forget: float
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(vocabulary, width))
        self.places = nn.Parameter(torch.randn(length - 1, width))
        self.forget = nn.Dropout1d(forget)
        self.linear = nn.Linear(latent, width)
        self.layers = nn.ModuleList(CausalLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, vocabulary)

    def teach(self, z: Float[Tensor, "r z"], before: Tensor) -> Float[Tensor, "r places d"]:
        """Run over all places at once."""
        tokens = self.forget(embed_tokens(before, self.weight))
        return self._next(torch.cat([rearrange(self.linear(z), "r d -> r 1 d"), tokens], 1), ())[0]

    def start(self, z: Float[Tensor, "r z"]) -> tuple[Float[Tensor, "r d"], State]:
        """Take z."""
        hidden, state = self._next(rearrange(self.linear(z), "r d -> r 1 d"), ())
        return hidden[:, 0], state

    def step(self, state: State, token: Tensor) -> tuple[Float[Tensor, "r d"], State]:
        """Take one token."""
        hidden, state = self._next(rearrange(embed_tokens(token, self.weight), "r d -> r 1 d"), state)
        return hidden[:, 0], state

    def logits(self, hidden: Float[Tensor, "*r d"]) -> Float[Tensor, "*r v"]:
        """Turn hidden vectors into logits."""
        out: Tensor = self.out(self.norm(hidden))
        return out

    def _next(self, x: Float[Tensor, "r m d"], state: State) -> tuple[Float[Tensor, "r m d"], State]:
        """Run m more tokens; the state holds each layer's keys and values of those before, as one tensor."""
        past = state[0].shape[-2] if state else 0
        x = x + self.places[past : past + x.shape[1]]
        kept: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            x, known = layer(x, state[i] if state else None)
            kept.append(known)
        return x, tuple(kept)


class CausalLayer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    Args:
        width: of a token.
        heads: of attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.keys_values = nn.Linear(width, 2 * width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(
        self, x: Float[Tensor, "r m d"], past: Float[Tensor, "r two h n e"] | None
    ) -> tuple[Float[Tensor, "r m d"], Float[Tensor, "r two h all e"]]:
        """Attend to what is past and, causally, to x itself: m tokens at the start, one afterwards."""
        normed = self.first(x)
        query = rearrange(self.query(normed), "r m (h e) -> r h m e", h=self.heads)
        known = rearrange(self.keys_values(normed), "r m (two h e) -> r two h m e", two=2, h=self.heads)
        known = known if past is None else torch.cat([past, known], -2)
        mixed = scaled_dot_product_attention(query, known[:, 0], known[:, 1], is_causal=past is None)
        x = x + self.out(rearrange(mixed, "r h m e -> r m (h e)"))
        return x + self.mlp(self.second(x)), known
