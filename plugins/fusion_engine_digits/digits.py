"""Digits as images, pen strokes and labels, with missing cells and noise on request."""

import math
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fusion_engine import ConfigError, Dataset
from fusion_engine_digits.source import ARRAY_OF, Source, read

Row = Mapping[str, Any]


class Digits(Dataset):
    """Handwritten digits; a row is {modality: raw sample or None}.

    The packaged data set has 1437 rows to learn from and 360 to test on, mostly by other writers; ``data/README.md``
    says where it comes from. Raw samples:

    - ``image``: uint8 [h w], 0..255 (8 x 8 in the packaged data set);
    - ``mirror``: the image mirrored left to right, as a second image modality, with noise and gaps of its own;
    - ``strokes``: float32 [n 3], dx, dy in pixels and 1 where the pen is lifted after the point;
    - ``label``: int.

    Whatever is random is keyed by (seed, row of the data set, modality): a further modality or another validation
    share leaves noise as it is. Test and validation rows are complete. The file is read when a split is first asked
    for.

    Args:
        modalities: which, in this order.
        missing: the share of all cells taken out of the training rows; a row always keeps one. Of m modalities a share
            of up to (m - 1) / m can be missing.
        validation: the share of the training rows set aside, after a seeded shuffle.
        noise: the deviation of the Gaussian noise added to images of every split, in units of their range; what leaves
            the range is cut off.
        seed: of noise, gaps and shuffle.
        path: another data set of the same layout, an npz file or a folder with one: image uint8 [n h w] (0..255; or
            0..16, if nothing is brighter), strokes [n l 3], strokes_length or length [n], label [n], and test [n]
            (0 or 1) or fold [n], of which fold 4 is the test split. Arrays that no modality needs may be absent.

    Raises:
        ConfigError: modalities are repeated or none, or more is to be missing than rows can spare.
        DataError: the file at ``path`` does not fit; raised when a split is asked for.
    """

    def __init__(
        self,
        *,
        modalities: tuple[Literal["image", "mirror", "strokes", "label"], ...] = ("image", "strokes"),
        missing: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        validation: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        noise: Annotated[float, Field(ge=0)] = 0.0,
        seed: Annotated[int, Field(ge=0)] = 0,
        path: str | None = None,
    ) -> None:
        _check(modalities, missing)
        self.modalities, self.missing, self.validation_share = modalities, missing, validation
        self.noise, self.seed, self.path = noise, seed, path

    @cached_property
    def train(self) -> Sequence[Row]:
        """The rows to learn from, in the data set's order, with gaps."""
        kept = self._kept()
        return [self._row(i, kept[i]) for i in self._split[0].tolist()]

    @cached_property
    def validation(self) -> Sequence[Row]:
        """The rows to choose by: complete, and by the same writers as the training rows."""
        return [self._row(i) for i in self._split[1].tolist()]

    @cached_property
    def test(self) -> Sequence[Row]:
        """The rows to report on: complete, in the data set's order."""
        return [self._row(i) for i in np.flatnonzero(self._source.test).tolist()]

    @cached_property
    def _source(self) -> Source:
        return read(self.path, self.modalities)

    @cached_property
    def _columns(self) -> Mapping[str, Sequence[Any]]:
        return {name: self._column(name) for name in self.modalities}

    @cached_property
    def _split(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the training and the validation split, each in the data set's order."""
        rows = self._random("validation").permutation(np.flatnonzero(~self._source.test))
        count = round(self.validation_share * len(rows))
        return np.sort(rows[count:]), np.sort(rows[:count])

    def _row(self, i: int, kept: NDArray[np.bool_] | None = None) -> Row:
        cells = enumerate(self._columns.items())
        return {name: column[i] if kept is None or kept[m] else None for m, (name, column) in cells}

    def _random(self, *purpose: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *(zlib.crc32(word.encode()) for word in purpose)])

    def _column(self, name: str) -> Sequence[Any]:
        """One modality's raw sample of every row."""
        source = self._source
        if source.image is not None and ARRAY_OF[name] == "image":
            image = source.image if name == "image" else np.ascontiguousarray(source.image[:, :, ::-1])
            return list(self._noisy(image, name))
        if source.strokes is not None and source.length is not None and name == "strokes":
            return [x[:n] for x, n in zip(source.strokes, source.length, strict=True)]
        assert source.label is not None
        return [int(x) for x in source.label]

    def _noisy(self, image: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
        if self.noise == 0:
            return image
        noise = self._random("noise", name).standard_normal(image.shape, dtype=np.float32)
        return np.clip(np.rint(image + 255 * self.noise * noise), 0, 255).astype(np.uint8)

    def _kept(self) -> NDArray[np.bool_]:
        """Choose the cells [n m] that stay: those above a threshold, and the highest of each row in any case."""
        n = len(self._source.test)
        height = np.stack([self._random("missing", name).random(n) for name in self.modalities], 1)
        kept = height >= _threshold(self.missing, len(self.modalities))
        return np.asarray(kept | (height == height.max(1, keepdims=True)), dtype=np.bool_)


def _threshold(missing: float, m: int) -> float:
    """Solve p - p^m / m = missing: with probability p^m all m cells fall, and one of them is put back."""
    low, high = missing, 1.0
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if middle - middle**m / m < missing else (low, middle)
    return high if missing else 0.0


def _check(modalities: Sequence[str], missing: float) -> None:
    """Check what single hints cannot.

    Raises:
        ConfigError: see ``Digits``.
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
