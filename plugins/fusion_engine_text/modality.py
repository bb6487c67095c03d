"""Texts as a modality: bytes, an end, padding."""

import random
import string
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor
from torch.distributions import Categorical

from fusion_engine import DistributionLikelihood, Likelihood, Media, Noise, Signal, TextModality, require
from fusion_engine_text.likelihood import TextLikelihood
from fusion_engine_text.tokens import as_ids, gumbel, in_full, straight_through, valid_tokens

if TYPE_CHECKING:
    from transformers import ByT5Tokenizer

_PLACEHOLDER_LENGTH = 16
_MALFORMED = "\ufffd".encode()
"""Stands for a token that no text holds, as it does for bytes that are no UTF-8."""


class Text(TextModality):
    """Strings as the bytes of their UTF-8, one token each: Xue et al., TACL 2022, arXiv:2105.13626.

    Signals are ids [b n] or soft one-hots [b n v], n = length, v = 259: 256 bytes, padding, end and unknown. An empty
    string is a text, its end alone. What is drawn need not be a text: ``restore`` cuts at the first end and puts U+FFFD
    where the bytes are no UTF-8. Until ``fit`` has learned the length it is 16.

    Args:
        length: the most tokens of a text, its end included; learned as that of the longest, 2 at least.
        temperature: of relaxed samples; the smaller, the less biased and the noisier is their gradient.
    """

    encoder: ClassVar[str] = "encoder/text.transformer"
    decoder: ClassVar[str] = "decoder/text.rnn"

    def __init__(
        self,
        *,
        length: Annotated[int, Field(ge=2)] | None = None,
        temperature: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        self._is_set = length is not None
        self.length = _PLACEHOLDER_LENGTH if length is None else length
        self.temperature = temperature
        self.vocabulary, self.padding, self.end = 259, 0, 1

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn the length; where the config sets it, every text must fit.

        Raises:
            DataError: there are no texts, one is no string, or one is too long.
        """
        lengths = [len(self._fitting(raw) if self._is_set else read_tokens(raw)) for raw in samples]
        require(bool(lengths), "there are no texts to learn from", expected="at least one", actual="none")
        return {"length": self.length if self._is_set else max(2, *lengths)}

    def prepare(self, raw: Any) -> Signal:
        """Turn one string into ids [n], padded.

        Raises:
            DataError: it is no string, or longer than ``length``.
        """
        ids = self._fitting(raw)
        return Signal(torch.tensor(ids + [self.padding] * (self.length - len(ids))))

    def _fitting(self, raw: Any) -> list[int]:
        ids = read_tokens(raw)
        require(
            len(ids) <= self.length,
            f"the text {raw[:60] + '…' if len(raw) > 60 else raw!r} is too long",
            expected=f"at most {self.length} tokens: {self.length - 1} bytes and the end",
            actual=f"{len(ids)} tokens",
            fix="set `length` to that of the longest text, or cut the texts",
        )
        return ids

    def restore(self, signal: Signal) -> list[str]:
        """Return the string of each row, up to its first end; of soft one-hots, that of the likeliest tokens."""
        ids = as_ids(signal.data).cpu()
        valid = valid_tokens(ids, self.end) & (ids != self.end)
        return [self._text(row[kept]) for row, kept in zip(ids, valid, strict=True)]

    def _text(self, ids: Int[Tensor, " m"]) -> str:
        table = _bytes()
        return b"".join(table.get(i, _MALFORMED) for i in ids.tolist()).decode("utf-8", errors="replace")

    def example(self, b: int) -> Signal:
        """Make random letters and blanks [b length], of differing length; the first row is the longest."""
        draw = random.Random(0)
        lengths = (self.length - 1 if i == 0 else draw.randrange(self.length) for i in range(b))
        texts = ["".join(draw.choices(string.ascii_lowercase + " ", k=k)) for k in lengths]
        return self.collate([self.prepare(text) for text in texts])

    def render(self, signal: Signal) -> list[Media]:
        """Write each row's text."""
        return [Media("text/plain", text.encode()) for text in self.restore(signal)]

    def relax(self, likelihood: Likelihood, noise: Noise, like: Signal | None = None) -> Signal:
        """Draw one-hots [*k b n v] whose gradient is that of Gumbel softmaxes.

        The paired text ``like`` does not matter, as every text has as many tokens. A likelihood that is none of tokens
        gives its mean.
        """
        if isinstance(likelihood, TextLikelihood):
            return likelihood.relaxed(noise, self.temperature)
        if not (isinstance(likelihood, DistributionLikelihood) and isinstance(likelihood.distribution, Categorical)):
            return super().relax(likelihood, noise, like)
        logits = in_full(likelihood.distribution.logits)
        uniform = noise.uniform(*logits.shape[-2:], lead=logits.shape[:-3], like=logits)
        return Signal(straight_through(logits, gumbel(uniform), self.temperature))


def read_tokens(raw: Any) -> list[int]:
    """Read a string as ids, its end included.

    Raises:
        DataError: it is no string, or one that UTF-8 cannot hold.
    """
    require(
        isinstance(raw, str),
        "a text is a string",
        expected="a str",
        actual=f"{type(raw).__name__}: {raw!r:.60}",
        fix="pass None for a missing text",
    )
    lone = [c for c in raw if "\ud800" <= c <= "\udfff"]
    require(not lone, "a text holds half of a character", expected="whole ones", actual=f"{raw!r:.60}")
    ids: list[int] = _tokenizer()(str(raw)).input_ids
    return ids


@cache
def _tokenizer() -> "ByT5Tokenizer":
    """Make the tokenizer, which needs no file; "</s>" in a text is letters like any other."""
    from transformers import ByT5Tokenizer

    return ByT5Tokenizer(extra_ids=0, split_special_tokens=True)


@cache
def _bytes() -> dict[int, bytes]:
    """Return the byte that each id stands for; padding, end and unknown have none."""
    tokenizer = _tokenizer()
    return {i: bytes([ord(tokenizer.convert_ids_to_tokens(i))]) for i in range(len(tokenizer)) if i >= tokenizer.offset}
