"""Three digits stacked as colour channels: a thousand modes to find. After Metz et al., ICLR 2017, arXiv:1611.02163."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from jaxtyping import Int64
from pydantic import Field

from fusion_engine import Dataset
from fusion_engine_digits.source import Source, read

Row = Mapping[str, Any]


class StackedDigits(Dataset):
    """Handwritten digits in threes, one a colour; a row is {modality: raw sample}.

    - ``image``: uint8 [8 8 3], 0..255: hundreds in red, tens in green, ones in blue;
    - ``label``: int, 0 to 999, the number that they are.

    Digits are drawn independently, from the packaged data set: training and validation rows of 1437, test rows of 360
    others, mostly by other writers. Published figures are of MNIST digits, 28x28, and of 128,000 and more rows.

    Args:
        rows: to learn from.
        validation: rows to choose by.
        test: rows to report on.
        seed: of the draws; each split has draws of its own.
    """

    def __init__(
        self,
        *,
        rows: Annotated[int, Field(ge=1)] = 20_000,
        validation: Annotated[int, Field(ge=0)] = 0,
        test: Annotated[int, Field(ge=0)] = 2000,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.sizes, self.seed = (rows, validation, test), seed

    @cached_property
    def train(self) -> Sequence[Row]:
        """The rows to learn from."""
        return self._rows(0)

    @cached_property
    def validation(self) -> Sequence[Row]:
        """The rows to choose by, of the same digits as the training rows."""
        return self._rows(1)

    @cached_property
    def test(self) -> Sequence[Row]:
        """The rows to report on, of digits that no other row has."""
        return self._rows(2)

    def digits(self, *, test: bool = False) -> Sequence[Row]:
        """Return the single digits that a split is made of, image [8 8] and label each: for judges of one channel."""
        image, label = self._arrays
        return [{"image": image[i], "label": int(label[i])} for i in np.flatnonzero(self._source.test == test)]

    @cached_property
    def _source(self) -> Source:
        return read(None, {"image", "label"}, 0)

    @property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        image, label = self._source.image, self._source.label
        assert image is not None
        assert label is not None
        return image, label

    def _rows(self, split: int) -> Sequence[Row]:
        image, label = self._arrays
        return [
            {"image": np.stack([image[i] for i in triple], -1), "label": int(label[triple] @ [100, 10, 1])}
            for triple in self._triples(split)
        ]

    def _triples(self, split: int) -> Int64[np.ndarray, "n 3"]:
        pool = np.flatnonzero(self._source.test == (split == 2))
        drawn: Int64[np.ndarray, "n 3"] = np.random.default_rng([self.seed, split]).choice(pool, (self.sizes[split], 3))
        return drawn
