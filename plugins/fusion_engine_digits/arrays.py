"""Open npz files of plain arrays, with errors that say what is wrong."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion_engine import DataError, require


def npz_at(path: Path) -> Path:
    """Return the file itself, or the only npz of a folder.

    Raises:
        DataError: a folder holds none, or several.
    """
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


@dataclass(frozen=True)
class Arrays:
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


@contextmanager
def arrays_in(path: Path) -> Iterator[Arrays]:
    """Open an npz file; arrays are read when they are asked for.

    Raises:
        DataError: it cannot be read.
    """
    try:
        zipfile.ZipFile(path).close()  # np.load takes other files too
        with np.load(path, allow_pickle=False) as arrays:
            yield Arrays(arrays, str(path))
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"cannot read {path}", expected="an .npz file of plain arrays", actual=str(error)) from error
