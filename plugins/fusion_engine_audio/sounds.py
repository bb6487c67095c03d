"""Reading raw sounds, whatever they come as: one channel of float32, at one rate, of one duration."""

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad
from torchaudio.functional import resample

from fusion_engine import DataError, require

DEFAULT_RATE = 8000
"""The rate where neither samples nor config say one."""
_MOST_CHANNELS = 16
_PCM = {"uint8": (128.0, 128.0), "int8": (0.0, 128.0), "int16": (0.0, 2.0**15), "int32": (0.0, 2.0**31)}
"""What silence and full scale are, by type of number."""


def read(raw: Any) -> tuple[Float[np.ndarray, " n"], int | None]:
    """Read an array, tensor, (array, rate) or path; return the mono sound, full scale 1, and its rate if it has one.

    Raises:
        DataError: it is no sound, cannot be read, is empty, or holds NaN or Inf.
    """
    rate: int | None = None
    if isinstance(raw, str | Path):
        raw, rate = _read_file(str(raw))
    elif isinstance(raw, tuple):
        raw, rate = _pair(raw)
    sound = _mono(_scaled(_array(raw)))
    require(
        bool(np.isfinite(sound).all()),
        "a sound holds NaN or Inf",
        expected="finite numbers",
        actual="some that are not",
        fix="pass None for a missing sound",
    )
    return sound, rate


def _read_file(path: str) -> tuple[np.ndarray, int]:
    shown = path if len(path) <= 100 else path[:97] + "..."
    try:
        sound, rate = soundfile.read(path, dtype="float32")
    except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
        raise DataError(
            f"cannot read the sound {shown!r}",
            expected="a readable WAV, FLAC or OGG file",
            actual=str(error)[:200] if os.path.exists(path) else "no such file",
        ) from error
    return sound, int(rate)


def _pair(raw: tuple[Any, ...]) -> tuple[Any, int]:
    good = len(raw) == 2 and isinstance(raw[1], int | np.integer) and not isinstance(raw[1], bool) and raw[1] > 0
    require(
        bool(good),
        "a tuple is no sound",
        expected="(array, samples per second)",
        actual="(" + ", ".join(type(part).__name__ for part in raw[:4]) + ")",
        fix="put the array first and the rate, a whole number, second; or give a list of numbers",
    )
    return raw[0], int(raw[1])


def _array(raw: Any) -> np.ndarray:
    if isinstance(raw, Tensor):
        tensor = raw.detach().cpu()
        return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
    try:
        return np.asarray(raw)
    except ValueError as error:
        raise DataError("a list of unequal rows is no sound", expected="numbers", actual=str(error)) from error


def _scaled(array: np.ndarray) -> Float[np.ndarray, "..."]:
    """Turn PCM of any width into float32 of full scale 1."""
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    kind = array.dtype.name
    require(
        kind in _PCM,
        "a sound holds floating-point numbers or PCM",
        expected="floats in [-1, 1], or " + ", ".join(_PCM),
        actual=f"{kind}",
        fix="convert it: array.astype('int16') for 16-bit PCM",
    )
    silence, full = _PCM[kind]
    return ((array.astype(np.float64) - silence) / full).astype(np.float32)


def _mono(array: Float[np.ndarray, "..."]) -> Float[np.ndarray, " n"]:
    """Take the mean over channels, the shorter of two axes."""
    require(array.size > 0, "a sound is empty", expected="at least one sample", actual=f"shape {array.shape}")
    good = array.ndim == 1 or (array.ndim == 2 and min(array.shape) <= _MOST_CHANNELS)
    require(
        good,
        "a sound has one axis, or a second one of a few channels",
        expected=f"[n], [n channels] or [channels n], at most {_MOST_CHANNELS} channels",
        actual=f"shape {array.shape}",
    )
    if array.ndim == 1:
        return array
    channels = 0 if array.shape[0] < array.shape[1] else 1
    mixed: np.ndarray = array.mean(channels, dtype=np.float32)
    return mixed


@dataclass(frozen=True)
class Clips:
    """Sounds of one rate and one duration.

    Args:
        sample_rate: samples per second.
        seconds: the duration.
    """

    sample_rate: int
    seconds: float

    @property
    def samples(self) -> int:
        """The number of samples of each, at least one."""
        return max(1, _whole(self.seconds * self.sample_rate))

    def read(self, raw: Any) -> Float[Tensor, " n"]:
        """Read a sound at this rate; what is shorter is followed by silence.

        Raises:
            DataError: it is no sound, or a longer one.
        """
        sound = self._resampled(*read(raw))
        require(
            len(sound) <= self.samples,
            "a sound is longer than the modality",
            expected=f"at most {self.seconds:.4g} s",
            actual=f"{len(sound) / self.sample_rate:.4g} s",
            fix="set `seconds` to the longest sound, or cut it",
        )
        return pad(sound, [0, self.samples - len(sound)])

    def _resampled(self, sound: Float[np.ndarray, " n"], rate: int | None) -> Float[Tensor, " m"]:
        x = torch.from_numpy(np.ascontiguousarray(sound))
        return x if rate in (None, self.sample_rate) else resample(x, rate, self.sample_rate)


def _whole(count: float) -> int:
    """Round up to a whole number of samples, but for what is rounding."""
    return math.ceil(count - 1e-6)


def learn_clips(samples: Sequence[Any], sample_rate: int | None, seconds: float | None) -> Clips:
    """Learn the rate that most sounds have and the duration of the longest one; what is given is kept.

    Raises:
        DataError: there are no sounds, or one cannot be read.
    """
    require(len(samples) > 0, "there are no sounds to learn from", expected="at least one", actual="none")
    lengths = [(len(sound), rate) for sound, rate in map(read, samples)]
    rates = Counter(rate for _, rate in lengths if rate is not None)
    common = sample_rate or (min(rates, key=lambda r: (-rates[r], r)) if rates else DEFAULT_RATE)
    longest = max(_whole(n * common / (rate or common)) for n, rate in lengths)
    return Clips(common, longest / common if seconds is None else seconds)
