"""A recurrent decoder of texts, token after token."""

from collections.abc import Mapping
from typing import Annotated

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Decoder, Features, Likelihood, TextModality, Widths
from fusion_engine_text.likelihood import TextLikelihood
from fusion_engine_text.network import State, TokenNetwork
from fusion_engine_text.tokens import embed_tokens


class RNNDecoder(Decoder):
    """Predict each token from z and the tokens before it with a GRU: Bowman et al., CoNLL 2016, arXiv:1511.06349.

        h_0 = tanh(linear(z)),  h_t = gru([embedding(x_{t-1}); z], h_{t-1}),  x_t ~ Categorical(linear(h_t))

    z [*k b z] -> texts [*k b n] with n the modality's length.

    Args:
        latent: the width of z.
        modality: the texts.
        conditions: whose pooled vectors join z.
        width: of the state.
        embedding: the width of a token.
        forget: the share of tokens that are withheld while training, so that z is read.
    """

    def __init__(
        self,
        latent: int,
        modality: TextModality,
        conditions: Mapping[str, Widths] | None = None,
        *,
        width: Annotated[int, Field(ge=1)] = 128,
        embedding: Annotated[int, Field(ge=1)] = 32,
        forget: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.texts = modality
        self.network = GRUNetwork(self.inputs_width, modality.vocabulary, width, embedding, forget)

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode; the network runs when the likelihood is asked."""
        return TextLikelihood(self.network, self.joined(z, conditions), self.texts)


class GRUNetwork(TokenNetwork):
    """A GRU whose first state and every input hold z.

    Args:
        latent: the width of z with the conditions.
        vocabulary: the number of tokens.
        width: of the state.
        embedding: the width of a token.
        forget: the share of tokens before that ``teach`` withholds in training mode.
    """

    def __init__(self, latent: int, vocabulary: int, width: int, embedding: int, forget: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(vocabulary, embedding))
        self.first = nn.Parameter(torch.randn(embedding))
        self.forget = nn.Dropout1d(forget)
        self.linear = nn.Linear(latent, width)
        self.rnn = nn.GRU(embedding + latent, width, batch_first=True)
        self.out = nn.Linear(width, vocabulary)

    def teach(self, z: Float[Tensor, "r z"], before: Tensor) -> Float[Tensor, "r places d"]:
        """Run over all places at once."""
        first = repeat(self.first, "e -> r 1 e", r=len(z))
        tokens = torch.cat([first, self.forget(embed_tokens(before, self.weight))], 1)
        inputs = torch.cat([tokens, repeat(z, "r z -> r m z", m=tokens.shape[1])], -1)
        states: Tensor = self.rnn(inputs, rearrange(self._begin(z), "r d -> 1 r d"))[0]
        return states

    def start(self, z: Float[Tensor, "r z"]) -> tuple[Float[Tensor, "r d"], State]:
        """Take the learned vector that stands before every text."""
        return self._next(repeat(self.first, "e -> r e", r=len(z)), self._begin(z), z)

    def step(self, state: State, token: Tensor) -> tuple[Float[Tensor, "r d"], State]:
        """Take one token."""
        return self._next(embed_tokens(token, self.weight), *state)

    def logits(self, hidden: Float[Tensor, "*r d"]) -> Float[Tensor, "*r v"]:
        """Turn states into logits."""
        out: Tensor = self.out(hidden)
        return out

    def _begin(self, z: Float[Tensor, "r z"]) -> Float[Tensor, "r d"]:
        return torch.tanh(self.linear(z))

    def _next(self, token: Tensor, h: Tensor, z: Tensor) -> tuple[Float[Tensor, "r d"], State]:
        """Run the same GRU for one step."""
        h = torch.gru_cell(torch.cat([token, z], -1), h, *self.rnn.all_weights[0])
        return h, (h, z)
