"""Read the arrays of a digits data set: the packaged one, or a file of the same layout."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion_engine import require
from fusion_engine_digits.arrays import Arrays, arrays_in, npz_at
from fusion_engine_digits.speech import Bank, Speech, packaged_bank

ARRAY_OF = {
    "image": "image",
    "mirror": "image",
    "strokes": "strokes",
    "audio": "audio",
    "text": "label",
    "label": "label",
}
"""The array that each modality is made from."""
COARSE = 16
"""The brightest value of the packaged images; others count to 255."""
RATE = 8000
"""The rate of audio in Hz where a file does not say it."""


@dataclass(frozen=True, eq=False)
class Source:
    """The arrays of a data set, n rows each; those that no modality needs are None.

    image uint8 [n h w] (0..255); strokes float32 [n l 3] (dx, dy, pen lifted after this point) of which ``length`` [n]
    points are valid; label [n]; test [n], True for the rows to report on. Clip i of ``speech`` belongs to row i, or,
    where there is a ``bank``, to none.
    """

    test: NDArray[np.bool_]
    image: NDArray[np.uint8] | None = None
    strokes: NDArray[np.float32] | None = None
    length: NDArray[np.int64] | None = None
    label: NDArray[np.int64] | None = None
    speech: Speech | None = None
    bank: Bank | None = None
    group: NDArray[np.generic] | None = None
    """[n], whole numbers or text: what each row belongs to, where a column is asked for."""


def read(
    path: str | None,
    needed: Set[str],
    fold: int,
    *,
    group: str | None = None,
    hold_out: Mapping[str, int | str] | None = None,
) -> Source:
    """Read the arrays that are needed; without a path, from the packaged data set, which has no column of groups.

    Raises:
        DataError: there is no such file, it is no npz, or an array is missing or malformed.
    """
    if path is not None:
        with arrays_in(npz_at(Path(path))) as arrays:
            source = _source(arrays, needed, fold, hold_out or {})
            return source if group is None else replace(source, group=_column(arrays, group, len(source.test)))
    packaged = resources.files("fusion_engine_digits") / "data" / "embedded_digits.npz"
    with resources.as_file(packaged) as file, arrays_in(file) as arrays:
        source = _source(arrays, needed - {"audio"}, fold, {})
    if "audio" not in needed:
        return source
    bank = packaged_bank()
    return replace(source, speech=bank.speech, bank=bank)


def _source(arrays: Arrays, needed: Set[str], fold: int, hold_out: Mapping[str, int | str]) -> Source:
    test = _held_out(arrays, hold_out) if hold_out else _test_flags(arrays, fold)
    n = len(test)
    image = strokes = length = label = speech = None
    if "image" in needed:
        image = _full_range(arrays.check("image", arrays.first("image"), "uint8", (n, None, None)))
    if "strokes" in needed:
        strokes = arrays.check("strokes", arrays.first("strokes"), "floating", (n, None, 3)).astype(np.float32)
        length = _length(arrays, ("strokes_length", "length"), "points of strokes", *strokes.shape[:2])
    if "label" in needed:
        label = arrays.check("label", arrays.first("label"), "integer", (n,)).astype(np.int64)
    if "audio" in needed:
        speech = _speech(arrays, n)
    return Source(test, image, strokes, length, label, speech)


def _test_flags(arrays: Arrays, fold: int) -> NDArray[np.bool_]:
    """Return the test flag, or which rows are in the test fold."""
    flags = arrays.check("test or fold", arrays.first("test", "fold"), "integer", (None,))
    if "test" in arrays.arrays:
        return flags.astype(bool)
    folds = np.unique(flags).tolist()
    require(
        fold in folds,
        f"no row of {arrays.where} is in fold {fold}, the test split",
        expected=f"'fold' to be one of {folds}",
        actual=str(fold),
    )
    return np.asarray(flags == fold)


def _held_out(arrays: Arrays, hold_out: Mapping[str, int | str]) -> NDArray[np.bool_]:
    """Return which rows have the value that is held out."""
    ((name, value),) = hold_out.items()
    column = _column(arrays, name, None)
    known = np.unique(column).tolist()
    require(
        value in known,
        f"no row of {arrays.where} has {value!r} as {name!r}, the test split",
        expected=f"one of {known[:10]}" + (f" and {len(known) - 10} more" if len(known) > 10 else ""),
        actual=repr(value),
    )
    return np.asarray(column == value)


def _column(arrays: Arrays, name: str, n: int | None) -> NDArray[np.generic]:
    """Return a column of whole numbers or text."""
    column = arrays.first(name)
    return arrays.check(name, column, "str_" if column.dtype.kind == "U" else "integer", (n,))


def _speech(arrays: Arrays, n: int) -> Speech:
    """Scale each row's samples to [-1, 1] and cut them where they end."""
    audio = arrays.check("audio", arrays.first("audio"), "int16", (n, None))
    length = _length(arrays, ("audio_length",), "samples of audio", *audio.shape)
    rate = RATE
    if "sample_rate" in arrays.arrays:
        rate = int(arrays.check("sample_rate", arrays.first("sample_rate"), "integer", ()))
        require(rate > 0, f"the sample rate of {arrays.where} does not fit", expected="Hz, 1 or more", actual=str(rate))
    sounds = audio.astype(np.float32) / np.float32(2**15)
    return Speech([x[:end] for x, end in zip(sounds, length, strict=True)], rate)


def _length(arrays: Arrays, names: tuple[str, ...], what: str, n: int, longest: int) -> NDArray[np.int64]:
    """Return how many points or samples of each row are valid."""
    length = arrays.check(" or ".join(names), arrays.first(*names), "integer", (n,)).astype(np.int64)
    require(
        bool(((length >= 1) & (length <= longest)).all()),
        f"{names[0]!r} of {arrays.where} does not fit",
        expected=f"1 to {longest} {what}",
        actual=f"{length.min(initial=longest)} to {length.max(initial=0)}",
    )
    return length


def _full_range(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stretch images that count to 16 to 0..255."""
    if image.max(initial=0) > COARSE:
        return image
    full: NDArray[np.uint8] = np.rint(image * (255 / COARSE)).astype(np.uint8)
    return full
