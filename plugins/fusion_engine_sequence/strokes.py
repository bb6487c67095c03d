"""Pen strokes as a modality: given as movements, learned as positions."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from fusion_engine import Likelihood, Media, Noise, SequenceModality, Signal
from fusion_engine_sequence.augmentations import OF_STROKES
from fusion_engine_sequence.drawing import pen_strokes
from fusion_engine_sequence.modality import Series, read_sequence


class Strokes(SequenceModality):
    """Pen strokes [n 3] = (dx, dy, pen lifted after this point), the first row the absolute start.

        data = ((x, y) - centre) / deviation, pen        with (x, y) the running sum of (dx, dy)

    Positions instead of movements: a decoder's errors do not add up along the stroke. x and y share one deviation, so
    that shapes keep their proportions. ``restore`` gives movements again.

    Args:
        length: the longest sequence that fits; learned.
        centre: of x and y; learned.
        deviation: of x and y together; learned.
    """

    encoder: ClassVar[str] = "encoder/sequence.conv"
    decoder: ClassVar[str] = "decoder/sequence.conv"
    augmentations: ClassVar[tuple[str, ...]] = tuple(OF_STROKES)

    def __init__(
        self,
        *,
        length: Annotated[int, Field(ge=1)] | None = None,
        centre: Annotated[Sequence[float], Field(min_length=2, max_length=2)] | None = None,
        deviation: Annotated[float, Field(gt=0)] | None = None,
    ) -> None:
        given = {"length": length, "centre": centre, "deviation": deviation}
        self._set: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        scale = deviation or 1.0
        self.series = Series(
            channels=3,
            length=length or 16,
            binary=[2],
            deviation=[scale, scale, 1.0],
            centre=[*(centre or (0.0, 0.0)), 0.0],
        )
        self.channels, self.length, self.binary = 3, self.series.length, (2,)

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn length, centre and deviation; what the config already sets is kept.

        Raises:
            DataError: no strokes, empty ones, NaN, other than three channels, a pen that is not 0 or 1.
        """
        positions = [_positions(raw) for raw in samples]
        learned = Series(channels=3, binary=[2]).fit(positions)
        points = np.concatenate([p[:, :2] for p in positions])
        centre = points.mean(0)
        deviation = float(np.sqrt(((points - centre) ** 2).mean())) or 1.0
        return {"length": learned["length"], "centre": centre.tolist(), "deviation": deviation, **self._set}

    def prepare(self, raw: Any) -> Signal:
        """Add the movements up, scale: data [n 3], mask [n].

        Raises:
            DataError: empty, NaN, too long, other than three channels, a pen that is not 0 or 1.
        """
        return self.series.prepare(_positions(raw))

    def restore(self, signal: Signal) -> list[np.ndarray]:
        """Scale back and turn positions into movements: float32 [n 3] a row."""
        return [_movements(row) for row in self.series.restore(signal)]

    def example(self, b: int) -> Signal:
        """Make ragged noise, the same at each call."""
        return self.series.example(b)

    def render(self, signal: Signal) -> list[Media]:
        """Draw each row as PNG."""
        return [pen_strokes(row) if len(row) else pen_strokes(np.zeros((1, 3))) for row in self.restore(signal)]

    def augment(self, signal: Signal, name: str, noise: Noise) -> Signal:
        """Scale, turn or move the drawing; the pen stays."""
        if name not in OF_STROKES:
            return super().augment(signal, name, noise)
        return OF_STROKES[name](signal, noise, self.series.continuous)

    def relax(self, likelihood: Likelihood, noise: Noise, like: Signal | None = None) -> Signal:
        """Draw differentiable strokes with a pen that is 0 or 1."""
        return self.series.relax(likelihood, noise, like)


def _positions(raw: Any) -> np.ndarray:
    steps = read_sequence(raw)
    return np.concatenate([steps[:, :2].cumsum(0), steps[:, 2:]], 1)


def _movements(positions: np.ndarray) -> np.ndarray:
    steps = positions.copy()
    steps[1:, :2] -= positions[:-1, :2]
    return steps
