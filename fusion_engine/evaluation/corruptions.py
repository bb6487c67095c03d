"""Noise on raw samples, at a level: pure NumPy, drawn from the generator that is given."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion_engine.errors import DataError, nearest

Corruption = Callable[[Any, float, np.random.Generator], Any]
"""(raw sample, level, generator) -> raw sample of the same form."""


def image_noise(raw: Any, level: float, rng: np.random.Generator) -> NDArray[Any]:
    """Add Gaussian noise of deviation ``level`` in units of the pixels' range, and cut off what leaves it.

    The range is 0 to 255 for integers and for floats above 1, else 0 to 1; integers stay such.

    Raises:
        DataError: the level is negative or no number.
    """
    x = np.asarray(raw)
    whole = np.issubdtype(x.dtype, np.integer)
    top = 255.0 if whole or x.max(initial=0) > 1 else 1.0
    noisy = (x + top * _positive(level) * rng.standard_normal(x.shape)).clip(0, top)
    return (np.rint(noisy) if whole else noisy).astype(x.dtype)


def sound_noise(raw: Any, level: float, rng: np.random.Generator) -> Any:
    """Add white Gaussian noise at a ratio of signal to noise of ``level`` decibels, of mean power over the sound.

    A sound is an array [t], or a pair of that and its rate; silence stays silent.

    Raises:
        DataError: the level is no finite number, or the sound is not floating point.
    """
    if isinstance(raw, tuple):
        return (sound_noise(raw[0], level, rng), *raw[1:])
    if not math.isfinite(level):
        raise DataError("a ratio of signal to noise is a finite number of decibels", actual=str(level))
    x = np.asarray(raw)
    if not np.issubdtype(x.dtype, np.floating):
        raise DataError("noise is added to sounds in floating point", expected="-1 to 1", actual=str(x.dtype))
    power = float(np.mean(np.square(x, dtype=np.float64))) if x.size else 0.0
    return (x + math.sqrt(power / 10 ** (level / 10)) * rng.standard_normal(x.shape)).astype(x.dtype)


def sequence_jitter(raw: Any, level: float, rng: np.random.Generator) -> NDArray[Any]:
    """Add Gaussian noise to each channel of a sequence [n c], ``level`` of that channel's own deviations.

    Channels that hold 0 and 1 alone, such as a pen that is lifted, stay as they are.

    Raises:
        DataError: the level is negative or no number.
    """
    x = np.asarray(raw)
    x = x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float32)
    steady = np.isin(x, (0, 1)).all(0)
    scale = np.where(steady, 0.0, x.std(0)) * _positive(level)
    return (x + scale * rng.standard_normal(x.shape)).astype(x.dtype)


CORRUPTIONS: Mapping[str, Corruption] = {"image": image_noise, "sound": sound_noise, "sequence": sequence_jitter}
"""By name."""


def named(corrupt: str | Corruption) -> Corruption:
    """Return a corruption by its name, or itself.

    Raises:
        DataError: there is none of this name.
    """
    if not isinstance(corrupt, str):
        return corrupt
    if corrupt not in CORRUPTIONS:
        raise DataError(f"there is no corruption {corrupt!r}", fix=nearest(corrupt, CORRUPTIONS))
    return CORRUPTIONS[corrupt]


def corrupted(
    rows: Sequence[Mapping[str, Any]], modality: str, level: float, corrupt: str | Corruption, *, seed: int = 0
) -> list[dict[str, Any]]:
    """Corrupt one modality of every row that has it; a row's noise is keyed by (seed, row), the same at every level."""
    function = named(corrupt)
    found = [dict(row) for row in rows]
    for i, row in enumerate(found):
        if row.get(modality) is not None:
            row[modality] = function(row[modality], level, np.random.default_rng([seed, i]))
    return found


def _positive(level: float) -> float:
    if not (math.isfinite(level) and level >= 0):
        raise DataError("a level of noise is a number of at least 0", actual=str(level))
    return level
