"""How scores fall as an input gets worse: curves of a score over levels of noise, and the area under each."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fusion_engine.errors import DataError
from fusion_engine.evaluation.predictions import Score


@dataclass(frozen=True)
class Curve:
    """One score at each level.

    Args:
        name: of the score.
        levels: as they were given.
        values: of the score, one a level.
        area: under the curve; more is better, whatever the score.
    """

    name: str
    levels: tuple[float, ...]
    values: tuple[float, ...]
    area: float


def area_under(levels: Sequence[float], values: Sequence[float], *, higher: bool = True) -> float:
    """Return the raw area under a score's curve, by trapezoids over the range of levels; more is always better.

        sign * integral of value d(level) / (max level - min level),  sign = 1 where more is better, else -1

    It is the score's mean over levels drawn evenly. The order of the levels does not matter.

    Raises:
        DataError: fewer than two levels, two that are the same, as many values as levels are not given, or NaN.
    """
    if len(levels) != len(values) or len(set(levels)) < max(2, len(levels)):
        expected = "two or more levels, all different, and a value each"
        raise DataError("there is no curve", expected=expected, actual=f"levels {list(levels)}, {len(values)} values")
    if not all(math.isfinite(x) for x in (*levels, *values)):
        raise DataError("a curve holds NaN or Inf", actual=f"levels {list(levels)}, values {list(values)}")
    points = sorted(zip(levels, values, strict=True))
    area = sum((b - a) * (x + y) / 2 for (a, x), (b, y) in pairwise(points))
    return (area if higher else -area) / (points[-1][0] - points[0][0])


def curves(measure: Callable[[float], Sequence[Score]], levels: Sequence[float]) -> list[Curve]:
    """Measure at each level, and draw the curve of every score that all levels have.

    Raises:
        DataError: levels or scores make no curve.
    """
    found = [{score.name: score for score in measure(level)} for level in levels]
    if not found:
        raise DataError("there are no levels", expected="two or more")
    names = [name for name in found[0] if all(name in scores for scores in found)]
    return [_curve(levels, [scores[name] for scores in found]) for name in names]


def _curve(levels: Sequence[float], scores: Sequence[Score]) -> Curve:
    values = tuple(score.value for score in scores)
    return Curve(scores[0].name, tuple(levels), values, area_under(levels, values, higher=scores[0].higher))
