"""Spoken digits: clips, which row hears which, and noise on them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Speech:
    """Clips, float32 [l] in [-1, 1] each, and their rate in Hz."""

    clips: Sequence[Float32[np.ndarray, "_"]]
    rate: int


@dataclass(frozen=True, eq=False)
class Bank:
    """Speech that belongs to no row: what is said in each of c clips, and which voices are held out for testing."""

    speech: Speech
    label: Int64[np.ndarray, " c"]
    test: Bool[np.ndarray, " c"]

    def deal(
        self, label: Int64[np.ndarray, " n"], test: Bool[np.ndarray, " n"], turn: int, random: np.random.Generator
    ) -> Int64[np.ndarray, " n"]:
        """Choose a clip for each row, which says the row's label; held-out voices for test rows, others for others.

        In one turn no clip of a digit is used more than once oftener than another. Turns that draw from the same
        random state give a row another clip each, for as many turns as there are clips.
        """
        chosen = np.zeros(len(label), np.int64)
        for digit in np.unique(label).tolist():
            for held_out in (False, True):
                rows = np.flatnonzero((label == digit) & (test == held_out))
                clips = np.flatnonzero((self.label == digit) & (self.test == held_out))
                chosen[random.permutation(rows)] = _turned(random.permutation(clips), len(rows), turn)
        return chosen


def exchange(
    label: Int64[np.ndarray, " n"], rows: Int64[np.ndarray, " r"], turn: int, random: np.random.Generator
) -> Int64[np.ndarray, " n"]:
    """Choose a clip for each of n rows that have one of their own: in turn 0 that, later one of the same label.

    Only the given rows exchange clips, among themselves; the others keep theirs.
    """
    chosen = np.arange(len(label))
    for digit in np.unique(label[rows]).tolist():
        order = random.permutation(rows[label[rows] == digit])
        chosen[order] = _turned(order, len(order), turn)
    return chosen


def _turned(clips: Int64[np.ndarray, " c"], n: int, turn: int) -> Int64[np.ndarray, " n"]:
    """Deal clips to n rows round and round, from another one in each turn: steps near the golden section spread."""
    golden = round(0.618 * len(clips))
    step = next(s for s in range(golden, golden + len(clips) + 1) if math.gcd(s, len(clips)) == 1)
    return clips[(np.arange(n) + turn * step) % len(clips)]


def packaged_bank() -> Bank:
    """Read the packaged bank."""
    with (
        resources.as_file(resources.files("fusion_engine_digits") / "data" / "speech_bank.npz") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        clips = np.split(decode(arrays["audio"]), arrays["offset"][1:-1])
        speech = Speech(clips, int(arrays["sample_rate"]))
        return Bank(speech, arrays["label"].astype(np.int64), arrays["test"].astype(bool))


def decode(coded: UInt8[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """Decode mu-law: y = coded / 127.5 - 1, x = sign(y) (256^|y| - 1) / 255, the smooth curve of ITU-T G.711."""
    y = np.arange(256) / 127.5 - 1
    values = np.sign(y) * (256 ** np.abs(y) - 1) / 255
    return np.asarray(values.astype(np.float32)[coded])


def with_noise(
    clip: Float32[np.ndarray, " l"], decibels: float, random: np.random.Generator
) -> Float32[np.ndarray, " l"]:
    """Add white Gaussian noise of the clip's mean power / 10^(decibels / 10).

    What would leave [-1, 1] is made quieter as a whole, which keeps the ratio.
    """
    deviation = math.sqrt(float(np.mean(np.square(clip, dtype=np.float64))) / 10 ** (decibels / 10))
    noisy: NDArray[np.float32] = clip + np.float32(deviation) * random.standard_normal(len(clip), dtype=np.float32)
    return noisy / np.float32(max(1.0, np.abs(noisy).max()))


def shifted(clip: Float32[np.ndarray, " l"], silence: int, random: np.random.Generator) -> Float32[np.ndarray, " n"]:
    """Put so many zeros around a clip, a uniformly drawn part of them before it."""
    before = int(random.integers(silence + 1))
    return np.pad(clip, (before, silence - before))
