"""Take cells out of rows, so that a given share is missing and no row is left empty; check a data set's options."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusion_engine import ConfigError


def kept(heights: NDArray[np.float64], missing: float) -> NDArray[np.bool_]:
    """Choose the cells [n m] that stay, by uniform heights: those above a threshold, and each row's highest."""
    above = heights >= _threshold(missing, heights.shape[1])
    return np.asarray(above | (heights == heights.max(1, keepdims=True)), dtype=np.bool_)


def _threshold(missing: float, m: int) -> float:
    """Solve p - p^m / m = missing: with probability p^m all m cells fall, and one of them is put back."""
    low, high = missing, 1.0
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if middle - middle**m / m < missing else (low, middle)
    return high if missing else 0.0


def check(modalities: Sequence[str], missing: float) -> None:
    """Check what single hints cannot.

    Raises:
        ConfigError: modalities are repeated or none, or more is to be missing than rows can spare.
    """
    where = "dataset/digits"
    if not modalities or len(set(modalities)) < len(modalities):
        raise ConfigError("'modalities' names one or more, each once", where=where, actual=repr(list(modalities)))
    most = 1 - 1 / len(modalities)
    if missing > most and not math.isclose(missing, most):
        raise ConfigError(
            "more is to be missing than rows can spare: each keeps one cell",
            where=where,
            expected=f"'missing' of at most {most:.3g} for {len(modalities)} modalities",
            actual=str(missing),
        )


def check_columns(
    modalities: Sequence[str],
    path: str | None,
    group: str | None,
    hold_out: Mapping[str, int | str] | None,
    pairings: int,
) -> None:
    """Check what is asked of the columns of a file.

    Raises:
        ConfigError: there is no file, several columns are held out, or the group's name or the pairings do not fit.
    """
    where = "dataset/digits"
    if path is None and (group is not None or hold_out is not None):
        problem = "the packaged data set has no column of speakers or recordings"
        raise ConfigError(problem, where=where, fix="give the 'path' of a file that has one")
    if hold_out is not None and len(hold_out) != 1:
        raise ConfigError("'hold_out' names one column and one value", where=where, actual=str(dict(hold_out)))
    if group in modalities:
        raise ConfigError(f"the group {group!r} is a modality already", where=where, fix="leave 'group' out")
    if group is not None and pairings > 1:
        problem = "further pairings exchange clips between rows, so that a row belongs to several groups"
        raise ConfigError(problem, where=where, fix="leave 'pairings' or 'group' out")
