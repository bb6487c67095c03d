"""Mixtures of Gaussians on a grid or a ring: what generators lose modes of.

Srivastava et al., "VEEGAN", NeurIPS 2017, arXiv:1705.07761; with the layouts and deviations of Lin et al., "PacGAN",
NeurIPS 2018, arXiv:1712.04086, section 4.1.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fusion_engine import ConfigError, Dataset

Layout = Literal["grid", "ring"]
Row = Mapping[str, Any]
DEVIATIONS: dict[Layout, float] = {"grid": 0.05, "ring": 0.01}
SIZES: dict[Layout, int] = {"grid": 25, "ring": 8}
SPACING = 2.0
TEST = 10_000


class Gaussians(Dataset):
    """Points of the plane from equally likely round Gaussians; a row is {point: float32 [2], mode: int}.

        grid: centres at distances of 2 on a square around 0:  {-4, -2, 0, 2, 4}^2 for 25
        ring: centres (cos 2 pi i / size, sin 2 pi i / size)

    Of the data itself 98.9 % lie within three deviations of a centre. Training, validation and test rows are drawn
    independently of one another; each is the same for the same seed.

    Args:
        layout: grid or ring.
        size: how many Gaussians; for a grid a square number. Default 25 on the grid, 8 on the ring.
        deviation: of each, along each axis. Default .05 on the grid, .01 on the ring, as published.
        rows: to learn from.
        validation: rows to choose by.
        seed: of the draws.

    Raises:
        ConfigError: the size of a grid is no square number.
    """

    def __init__(
        self,
        *,
        layout: Layout = "grid",
        size: Annotated[int, Field(ge=1)] | None = None,
        deviation: Annotated[float, Field(gt=0)] | None = None,
        rows: Annotated[int, Field(ge=1)] = 50_000,
        validation: Annotated[int, Field(ge=0)] = 0,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.layout, self.rows, self.validation_rows, self.seed = layout, rows, validation, seed
        self.size = SIZES[layout] if size is None else size
        self.deviation = DEVIATIONS[layout] if deviation is None else deviation
        if layout == "grid" and math.isqrt(self.size) ** 2 != self.size:
            side = round(math.sqrt(self.size))
            raise ConfigError(
                "a grid has as many rows as columns",
                where="'size'",
                expected="a square number",
                actual=str(self.size),
                fix=f"use {side**2}",
            )

    @property
    def centres(self) -> NDArray[np.float64]:
        """The centre of each Gaussian, [size 2]."""
        if self.layout == "ring":
            angle = 2 * np.pi * np.arange(self.size) / self.size
            return np.stack([np.cos(angle), np.sin(angle)], 1)
        side = math.isqrt(self.size)
        line = SPACING * (np.arange(side) - (side - 1) / 2)
        return np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)

    @cached_property
    def train(self) -> Sequence[Row]:
        """The rows to learn from."""
        return self._drawn(0, self.rows)

    @cached_property
    def validation(self) -> Sequence[Row]:
        """The rows to choose by."""
        return self._drawn(1, self.validation_rows)

    @cached_property
    def test(self) -> Sequence[Row]:
        """Ten thousand rows to report on."""
        return self._drawn(2, TEST)

    def _drawn(self, split: int, n: int) -> Sequence[Row]:
        generator = np.random.default_rng([self.seed, split])
        mode = generator.integers(self.size, size=n)
        point = self.centres[mode] + self.deviation * generator.standard_normal((n, 2))
        return [{"point": p, "mode": m} for p, m in zip(point.astype(np.float32), mode.tolist(), strict=True)]
