"""What a likelihood of texts asks of the network behind it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

T = TypeVar("T")
State = tuple[Tensor, ...]
"""Whatever a network carries from one token to the next; the first axis of each is the row."""


class TokenNetwork(nn.Module, ABC):
    """Predict the next token from z and the tokens before it: all places at once, or one by one.

    Tokens are ids [r m] or one-hots [r m v] with a gradient. ``teach`` and the chain of ``start`` and ``step`` agree.
    Axes: r rows, m tokens, d width, v vocabulary.
    """

    @abstractmethod
    def teach(self, z: Float[Tensor, "r z"], before: Tensor) -> Float[Tensor, "r places d"]:
        """Return what predicts each of m + 1 places, given the m tokens before."""

    @abstractmethod
    def start(self, z: Float[Tensor, "r z"]) -> tuple[Float[Tensor, "r d"], State]:
        """Return what predicts the first token, and the state."""

    @abstractmethod
    def step(self, state: State, token: Tensor) -> tuple[Float[Tensor, "r d"], State]:
        """Take one more token, [r] or [r v]; return what predicts the next one, and the state."""

    @abstractmethod
    def logits(self, hidden: Float[Tensor, "*r d"]) -> Float[Tensor, "*r v"]:
        """Turn what predicts a token into logits."""

    def forward(self, use: Callable[[Self], T]) -> T:
        """Let something use the network: under ``functional_call`` it finds the weights given there."""
        return use(self)
