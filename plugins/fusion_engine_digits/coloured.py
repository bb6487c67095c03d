"""Digits enlarged and coloured: colour images of any size, with two labels that are independent of each other."""

import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from pydantic import Field

from fusion_engine import Dataset
from fusion_engine_digits.source import Source, read

Row = Mapping[str, Any]
COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (230, 50, 40),
    "orange": (240, 150, 20),
    "green": (40, 180, 70),
    "cyan": (30, 190, 210),
    "blue": (60, 90, 230),
    "purple": (170, 60, 200),
    "white": (240, 240, 240),
}
"""The ink of each colour, as red, green and blue; the paper is black."""


class ColouredDigits(Dataset):
    """Handwritten digits in colour; a row is {modality: raw sample}.

    - ``image``: uint8 [size size 3], 0..255: the digit, enlarged smoothly, in ink of its colour on black paper;
    - ``colour``: str, one of red, orange, green, cyan, blue, purple, white, drawn whatever the digit is;
    - ``label``: int, the digit.

        pixel = ink * grey / 255 * brightness,  brightness uniform in 0.8 to 1

    The packaged data set has 1437 rows to learn from and 360 to test on, mostly by other writers.

    Args:
        size: height and width in pixels.
        seed: of colours and brightness, row by row.
    """

    def __init__(self, *, size: Annotated[int, Field(ge=8)] = 64, seed: Annotated[int, Field(ge=0)] = 0) -> None:
        self.size, self.seed = size, seed

    @cached_property
    def train(self) -> Sequence[Row]:
        """The rows to learn from, in the data set's order."""
        return self._rows(test=False)

    @property
    def validation(self) -> Sequence[Row]:
        """No rows: nothing is chosen by them."""
        return []

    @cached_property
    def test(self) -> Sequence[Row]:
        """The rows to report on, in the data set's order."""
        return self._rows(test=True)

    @cached_property
    def _source(self) -> Source:
        return read(None, {"image", "label"}, 0)

    def _rows(self, *, test: bool) -> Sequence[Row]:
        return [self._row(i) for i in np.flatnonzero(self._source.test == test).tolist()]

    def _row(self, i: int) -> Row:
        image, label = self._source.image, self._source.label
        assert image is not None
        assert label is not None
        random = np.random.default_rng([self.seed, zlib.crc32(b"colour"), i])
        colour = list(COLOURS)[random.integers(len(COLOURS))]
        return {
            "image": self._inked(image[i], colour, random.uniform(0.8, 1)),
            "colour": colour,
            "label": int(label[i]),
        }

    def _inked(self, grey: UInt8[np.ndarray, "h w"], colour: str, brightness: float) -> UInt8[np.ndarray, "s s 3"]:
        large = np.asarray(Image.fromarray(grey).resize((self.size, self.size), Image.Resampling.BICUBIC))
        ink = np.array(COLOURS[colour]) * brightness / 255
        inked: UInt8[np.ndarray, "s s 3"] = np.rint(large[:, :, None] * ink).astype(np.uint8)
        return inked
