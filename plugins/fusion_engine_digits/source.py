"""Read the arrays of a digits data set: the packaged one, or a file of the same layout."""

import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion_engine import DataError, require

ARRAY_OF = {"image": "image", "mirror": "image", "strokes": "strokes", "label": "label"}
"""The array that each modality is made from."""
COARSE = 16
"""The brightest value of the packaged images; others count to 255."""
TEST_FOLD = 4
"""The fold that is the test split where a file has folds and no test flag."""


@dataclass(frozen=True, eq=False)
class Source:
    """The arrays of a data set, n rows each; those that no modality needs are None.

    image uint8 [n h w] (0..255); strokes float32 [n l 3] (dx, dy, pen lifted after this point) of which ``length`` [n]
    points are valid; label [n]; test [n], True for the rows to report on.
    """

    test: NDArray[np.bool_]
    image: NDArray[np.uint8] | None = None
    strokes: NDArray[np.float32] | None = None
    length: NDArray[np.int64] | None = None
    label: NDArray[np.int64] | None = None


def read(path: str | None, modalities: Iterable[str]) -> Source:
    """Read what the modalities need; without a path, from the packaged data set.

    Raises:
        DataError: there is no such file, it is no npz, or an array is missing or malformed.
    """
    needed = {ARRAY_OF[name] for name in modalities}
    if path is not None:
        return _read_npz(_npz_at(Path(path)), needed)
    packaged = resources.files("fusion_engine_digits") / "data" / "embedded_digits.npz"
    with resources.as_file(packaged) as file:
        return _read_npz(file, needed)


def _npz_at(path: Path) -> Path:
    """Return the file itself, or the only npz of a folder."""
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.npz"))
    require(
        len(found) == 1,
        f"cannot tell which file of {path} is the data set",
        expected="one .npz file",
        actual=", ".join(p.name for p in found) or "none",
        fix="give the path of the file",
    )
    return found[0]


def _read_npz(path: Path, needed: set[str]) -> Source:
    try:
        zipfile.ZipFile(path).close()  # np.load takes other files too
        with np.load(path, allow_pickle=False) as arrays:
            return _source(_Arrays(arrays, str(path)), needed)
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"cannot read {path}", expected="an .npz file of plain arrays", actual=str(error)) from error


@dataclass(frozen=True)
class _Arrays:
    """The arrays of an open file, by name, with errors that say what is wrong."""

    arrays: Any
    where: str

    def first(self, *names: str) -> NDArray[Any]:
        """Return the array under the first of the names that the file has."""
        name = next((n for n in names if n in self.arrays), None)
        require(
            name is not None,
            f"the data set {self.where} lacks an array",
            expected=" or ".join(repr(n) for n in names),
            actual=", ".join(self.arrays),
        )
        return np.asarray(self.arrays[name])

    def check(self, name: str, x: NDArray[Any], kind: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
        """Return x, if its type and its shape (None: any size) are as expected."""
        fits = x.ndim == len(shape) and all(want in (None, have) for have, want in zip(x.shape, shape, strict=True))
        require(
            fits and np.issubdtype(x.dtype, getattr(np, kind)),
            f"array {name!r} of {self.where} does not fit",
            expected=f"{kind} [{' '.join('any' if s is None else str(s) for s in shape)}]",
            actual=f"{x.dtype} {list(x.shape)}",
        )
        return x


def _source(arrays: _Arrays, needed: set[str]) -> Source:
    test = _test_flags(arrays)
    n = len(test)
    image = strokes = length = label = None
    if "image" in needed:
        image = _full_range(arrays.check("image", arrays.first("image"), "uint8", (n, None, None)))
    if "strokes" in needed:
        strokes = arrays.check("strokes", arrays.first("strokes"), "floating", (n, None, 3)).astype(np.float32)
        length = _length(arrays, *strokes.shape[:2])
    if "label" in needed:
        label = arrays.check("label", arrays.first("label"), "integer", (n,)).astype(np.int64)
    return Source(test, image, strokes, length, label)


def _test_flags(arrays: _Arrays) -> NDArray[np.bool_]:
    """Return the test flag, or which rows are in the test fold."""
    flags = arrays.check("test or fold", arrays.first("test", "fold"), "integer", (None,))
    return flags.astype(bool) if "test" in arrays.arrays else flags == TEST_FOLD


def _length(arrays: _Arrays, n: int, longest: int) -> NDArray[np.int64]:
    """Return how many points of each row are valid."""
    length = arrays.check("length", arrays.first("strokes_length", "length"), "integer", (n,)).astype(np.int64)
    require(
        bool(((length >= 1) & (length <= longest)).all()),
        f"lengths of strokes in {arrays.where} do not fit",
        expected=f"1 to {longest} points",
        actual=f"{length.min(initial=longest)} to {length.max(initial=0)}",
    )
    return length


def _full_range(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stretch images that count to 16 to 0..255."""
    if image.max(initial=0) > COARSE:
        return image
    full: NDArray[np.uint8] = np.rint(image * (255 / COARSE)).astype(np.uint8)
    return full
