"""The likelihood of a text, token after token."""

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy, one_hot

from fusion_engine import Likelihood, Noise, Signal, TextModality, require
from fusion_engine_text.network import TokenNetwork
from fusion_engine_text.tokens import as_ids, gumbel, in_full, straight_through, valid_tokens

T = TypeVar("T")
Choose = Callable[[int, Float[Tensor, "r v"]], Tensor]
"""Chooses token t by its logits: ids [r] or one-hots [r v]."""


class TextLikelihood(Likelihood):
    """p(x | z) = prod_t Categorical(x_t | x_<t, z), up to and including the first end; what follows counts nothing.

    The last token that fits, where a text gets so far, is its end with certainty, so that the probabilities of all
    texts sum to one: a text has at most length - 1 other tokens, and log p sums over t < length - 1.
    The network runs only when asked, with the weights (detached ones, say) that it has at construction.

    Args:
        network: of the next token.
        z: [*k b z], with the conditions.
        modality: whose length, end and padding apply.
    """

    def __init__(self, network: TokenNetwork, z: Float[Tensor, "*k b z"], modality: TextModality) -> None:
        self.network, self.z = network, z
        self.weights: dict[str, Tensor] = dict(network.named_parameters())
        self.length, self.vocabulary = modality.length, modality.vocabulary
        self.end, self.padding = modality.end, modality.padding
        self._mean: Signal | None = None

    @property
    def _rows(self) -> Float[Tensor, "r z"]:
        return self.z.reshape(math.prod(self.z.shape[:-1]), self.z.shape[-1])

    def _run(self, use: Callable[[TokenNetwork], T]) -> T:
        found: T = functional_call(self.network, self.weights, (use,))
        return found

    def log_prob(self, signal: Signal) -> Float[Tensor, "*k b"]:
        """Log probability of ids [b n]; of soft one-hots [b n v], sum_v x_tv log p(v | x_<t, z), summed over t.

        Raises:
            DataError: n is not the length that this is about.
        """
        require(
            signal.data.shape[1] == self.length,
            "a text has another length than its likelihood",
            expected=f"{self.length} tokens, padding included",
            actual=f"{signal.data.shape[1]}",
        )
        scored = valid_tokens(as_ids(signal.data), self.end)[:, : self.length - 1]
        longest = max(1, int(scored.any(0).sum()))
        scored, data = self._spread(scored[:, :longest]), self._spread(signal.data[:, :longest])

        def chosen(network: TokenNetwork) -> Float[Tensor, " tokens"]:
            logits = in_full(network.logits(network.teach(self._rows, data[:, :-1])[scored]))
            if data.is_floating_point():
                return (logits.log_softmax(-1) * data[scored]).sum(-1)
            return -cross_entropy(logits, data[scored], reduction="none")

        found = self._run(chosen)
        return found.new_zeros(scored.shape).index_put((scored,), found).sum(1).reshape(self.z.shape[:-1])

    def _spread(self, x: Tensor) -> Tensor:
        """Repeat [b ...] over the sample axes: [r ...]."""
        return x.expand(*self.z.shape[:-2], *x.shape).reshape(math.prod(self.z.shape[:-1]), *x.shape[1:])

    def sample(self, noise: Noise) -> Signal:
        """Draw ids [*k b n], each token by its inverse CDF; padding follows the end."""
        uniform = noise.uniform(self.length, lead=self.z.shape[:-2], like=in_full(self.z))
        uniform = rearrange(uniform, "... n -> (...) n")

        def choose(t: int, logits: Float[Tensor, "r v"]) -> Tensor:
            cumulated = logits.softmax(-1).cumsum(-1)
            drawn = (cumulated <= uniform[:, t, None] * cumulated[:, -1:]).sum(-1)
            return drawn.clamp(max=self.vocabulary - 1)

        with torch.no_grad():
            return Signal(self._generate(choose))

    @property
    def mean(self) -> Signal:
        """The text of the likeliest next tokens (greedy, so not always the likeliest text): ids [*k b n]."""
        if self._mean is None:
            with torch.no_grad():
                self._mean = Signal(self._generate(lambda _, logits: logits.argmax(-1)))
        return self._mean

    def relaxed(self, noise: Noise, temperature: float) -> Signal:
        """Draw one-hots [*k b n v] whose gradient is that of Gumbel softmaxes; each is fed back as it is.

        Padding behind the end, and an end that only the length has forced, have no gradient.
        """
        like = in_full(self.z)

        def choose(t: int, logits: Float[Tensor, "r v"]) -> Tensor:
            uniform = noise.at(t).uniform(self.vocabulary, lead=self.z.shape[:-2], like=like)
            drawn = gumbel(rearrange(uniform, "... v -> (...) v"))
            return straight_through(logits, drawn, temperature)

        return Signal(self._generate(choose, relaxed=True))

    def _generate(self, choose: Choose, *, relaxed: bool = False) -> Tensor:
        """Choose token after token until every row has ended."""
        end, padding = (torch.tensor(token, device=self.z.device) for token in (self.end, self.padding))
        if relaxed:
            end, padding = (one_hot(token, self.vocabulary).to(in_full(self.z)) for token in (end, padding))

        def pick(on: Tensor, token: Tensor, other: Tensor) -> Tensor:
            return torch.where(on[:, None] if relaxed else on, token, other)

        def tokens(network: TokenNetwork) -> list[Tensor]:
            hidden, state = network.start(self._rows)
            on = torch.ones(len(hidden), dtype=torch.bool, device=hidden.device)
            found: list[Tensor] = []
            for t in range(self.length - 1):
                if t:
                    hidden, state = network.step(state, found[-1])
                found.append(pick(on, choose(t, in_full(network.logits(hidden))), padding))
                on = on & (as_ids(found[-1]) != self.end)
                if not bool(on.any()):
                    break
            rest = self.length - len(found)
            return [*found, pick(on, end, padding), *[pick(on & False, end, padding)] * (rest - 1)]

        stacked = torch.stack(self._run(tokens), 1)
        return stacked.reshape(*self.z.shape[:-1], *stacked.shape[1:])
