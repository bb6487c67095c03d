"""Melodies as a modality: sequences of notes and rests, each with its length."""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fusion_engine import ConfigError, DataError, Likelihood, Media, Noise, SequenceModality, Signal, fill, require
from fusion_engine_music.sound import played

Pitch = Annotated[int, Field(ge=1, le=127)]
_REST = 0


class Melody(SequenceModality):
    """Melodies [n 2] = (MIDI pitch or 0 for a rest, beats) of up to ``length`` events.

        data = [one-hot of rest, low .. high; log2(beats)]        [n c], c = high - low + 3, all but the last binary

    ``restore`` gives float32 [n 2]: the likeliest pitch and the beats. ``relax`` chooses one pitch a step going forward
    and passes the gradient to the shares softmax(logit p) (straight-through: Bengio et al., 2013, arXiv:1308.3432),
    so that a discriminator sees a melody of whole notes. ``render`` plays it, with sines, and draws a piano roll.

    Args:
        length: the longest melody that fits; learned.
        low, high: the lowest and the highest pitch; learned.
    """

    encoder: ClassVar[str] = "encoder/sequence.rnn"
    decoder: ClassVar[str] = "decoder/sequence.rnn"

    def __init__(
        self,
        *,
        length: Annotated[int, Field(ge=1)] | None = None,
        low: Pitch | None = None,
        high: Pitch | None = None,
    ) -> None:
        given = {"length": length, "low": low, "high": high}
        self._set: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        self.length, self.low = length or 16, low or min(60, high or 60)
        self.high = high or max(72, self.low)
        if self.high < self.low:
            raise ConfigError("no pitch lies between", expected=f"`high` of at least {low}", actual=str(high))
        self.channels = self.high - self.low + 3
        self.binary = tuple(range(self.channels - 1))

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn length and the range of pitches; what the config already sets is checked and kept.

        Raises:
            DataError: no melodies, empty ones, such that are none or do not fit the config; or rests alone.
        """
        melodies = [_read(raw) for raw in samples]
        pitches = np.concatenate([m[m[:, 0] != _REST, 0] for m in melodies]) if melodies else np.zeros(0)
        require(len(pitches) > 0, "there are no notes to learn from", expected="at least one", actual="none")
        learned = {"length": max(map(len, melodies)), "low": int(pitches.min()), "high": int(pitches.max())}
        fitted = Melody(**{**learned, **self._set})
        for melody in melodies:
            fitted._check(melody)
        return {**learned, **self._set}

    def prepare(self, raw: Any) -> Signal:
        """Write pitches as one-hot and beats as their logarithm: data [n c], mask [n].

        Raises:
            DataError: no melody, too long, or a pitch outside of low to high.
        """
        melody = _read(raw)
        self._check(melody)
        pitch = torch.from_numpy(melody[:, 0]).long()
        place = torch.where(pitch == _REST, 0, pitch - self.low + 1)
        chosen = torch.nn.functional.one_hot(place, self.channels - 1).float()
        beats = torch.from_numpy(melody[:, 1:]).log2().float()
        return Signal(torch.cat([chosen, beats], 1), torch.ones(len(melody), dtype=torch.bool))

    def restore(self, signal: Signal) -> list[NDArray[np.float32]]:
        """Take the likeliest pitch of each step: float32 [n 2] a row."""
        data = signal.data.detach().cpu().float()
        place = data[..., :-1].argmax(-1)
        pitch = torch.where(place == 0, _REST, place + self.low - 1).float()
        rows = torch.stack([pitch, data[..., -1].clamp(-10, 10).exp2()], -1)
        if signal.mask is None:
            return [row.numpy() for row in rows]
        return [row[mask].numpy() for row, mask in zip(rows, signal.mask.cpu(), strict=True)]

    def example(self, b: int) -> Signal:
        """Make ragged random melodies, the same at each call; the first row is of full length."""
        generator = torch.Generator().manual_seed(0)
        place = torch.randint(0, self.channels - 1, (b, self.length), generator=generator)
        beats = torch.randint(-1, 2, (b, self.length, 1), generator=generator).float()
        data = torch.cat([torch.nn.functional.one_hot(place, self.channels - 1).float(), beats], -1)
        lengths = torch.randint(1, self.length + 1, (b,), generator=generator)
        lengths[:1] = self.length
        mask = torch.arange(self.length) < lengths[:, None]
        return Signal(fill(data, mask), mask)

    def render(self, signal: Signal) -> list[Media]:
        """Play each row as WAV, with a piano roll as its picture; nothing is a sixteenth of a beat of silence."""
        silence = np.zeros((1, 2), np.float32)
        return [played(m if len(m) else silence, self.low, self.high) for m in self.restore(signal)]

    def relax(self, likelihood: Likelihood, noise: Noise, like: Signal | None = None) -> Signal:
        """Choose the likeliest pitch of each step, differentiably."""
        soft = super().relax(likelihood, noise, like)
        data = torch.cat([_chosen(soft.data[..., :-1]), soft.data[..., -1:]], -1)
        return Signal(fill(data, soft.mask), soft.mask, soft.position)

    def _check(self, melody: NDArray[np.float64]) -> None:
        pitches = melody[melody[:, 0] != _REST, 0]
        require(
            len(melody) <= self.length,
            "a melody is too long",
            expected=f"at most {self.length} events",
            actual=f"{len(melody)}",
            fix="set `length` to that of the longest melody, or cut the melodies",
        )
        wrong = pitches[(pitches < self.low) | (pitches > self.high)]
        require(
            len(wrong) == 0,
            "a pitch is out of range",
            expected=f"{self.low} to {self.high}, or 0 for a rest",
            actual=", ".join(f"{p:g}" for p in wrong[:3]),
            fix="set `low` and `high`",
        )


def _chosen(p: Float[Tensor, "*b v"]) -> Float[Tensor, "*b v"]:
    """One-hot of the largest going forward, softmax of the logits of p going back."""
    shares = p.logit(eps=1e-4).softmax(-1)
    hard = torch.zeros_like(p).scatter(-1, p.argmax(-1, keepdim=True), 1.0)
    return hard + (shares - shares.detach())


def _read(raw: Any) -> NDArray[np.float64]:
    """Read a melody as float64 [n 2]."""
    try:
        melody = np.asarray(raw.detach().cpu() if isinstance(raw, Tensor) else raw, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("no melody", expected="an array [n 2] of pitch and beats", actual=repr(raw)[:80]) from error
    good = melody.ndim == 2 and melody.shape[1:] == (2,) and len(melody) > 0
    require(good, "no melody", expected="an array [n 2] of pitch and beats", actual=f"shape {melody.shape}")
    pitch, beats = melody.T
    whole = np.isfinite(melody).all() and bool((pitch == np.rint(pitch)).all() and (pitch >= 0).all())
    require(
        bool(whole and (beats > 0).all()),
        "a melody is of whole pitches and positive beats",
        expected="MIDI numbers, 0 for a rest; beats above 0",
        actual=str(melody[~(np.isfinite(melody).all(1) & (pitch == np.rint(pitch)) & (beats > 0))][:1].tolist()),
    )
    return melody
