"""Figures for reading: grouped by what they measure, numbers written short, what is the same in all rows said once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from fusion_engine.report.plots import bar

Figure = Mapping[str, Any]
TITLES = {"value": "model", "real": "real data", "chance": "chance"}
"""Columns of numbers that have a title of their own, in this order."""


@dataclass(frozen=True)
class Entry:
    """One figure: its name within its group, its bar, a cell a column, how to read it."""

    name: str
    bar: Markup
    cells: Sequence[str]
    note: str


@dataclass(frozen=True)
class Summary:
    """Groups of figures, the titles of their cells, and what holds for all of them."""

    columns: Sequence[str]
    groups: Mapping[str, Sequence[Entry]]
    common: Mapping[str, str]


def summarise(figures: Sequence[Figure]) -> Summary:
    """Arrange figures, mappings with ``name``, ``value`` and any further keys; keys that occur are columns."""
    keys = list(dict.fromkeys(key for figure in figures for key, x in figure.items() if x is not None))
    others = [key for key in keys if key not in ("name", "note", *TITLES)]
    common = {key: number(figures[0].get(key)) for key in others if _same([f.get(key) for f in figures])}
    columns = [*(key for key in TITLES if key in keys), *(key for key in others if key not in common)]
    groups = {group: _entries(found, columns, whole=not group) for group, found in _groups([*figures]).items()}
    return Summary([TITLES.get(key, key) for key in columns], groups, {k: x for k, x in common.items() if x})


def _groups(figures: Sequence[Figure]) -> dict[str, list[Figure]]:
    """Sort figures by what stands before the colon of their names; what stands alone has the empty title."""
    titles = [_split(figure)[0] for figure in figures]
    found: dict[str, list[Figure]] = {}
    for figure, title in zip(figures, titles, strict=True):
        found.setdefault(title if titles.count(title) > 1 else "", []).append(figure)
    return found


def _split(figure: Figure) -> tuple[str, str]:
    group, colon, rest = str(figure.get("name", "")).partition(": ")
    return (group, rest) if colon else ("", group)


def _entries(figures: Sequence[Figure], columns: Sequence[str], *, whole: bool) -> list[Entry]:
    """Make the rows of a group, their bars on one scale."""
    numbers = [[_finite(figure.get(key)) for key in TITLES] for figure in figures]
    most = max([1.0, *(x for row in numbers for x in row if x is not None)])
    return [
        Entry(
            _arrow(str(figure.get("name", "")) if whole else _split(figure)[1]),
            bar(*row, most=most),
            [number(figure.get(key)) for key in columns],
            str(figure.get("note") or ""),
        )
        for figure, row in zip(figures, numbers, strict=True)
    ]


def _same(values: Sequence[Any]) -> bool:
    return len(values) > 1 and all(value == values[0] for value in values)


def _arrow(name: str) -> str:
    return name.replace(" -> ", " \N{RIGHTWARDS ARROW} ")


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def number(value: Any) -> str:
    """Write a number with three decimals, a large one with none; ``n/a`` for NaN, nothing for None.

    >>> number(0.91666), number(12345.6), number(7), number(float("nan")), number(None)
    ('0.917', '12346', '7', 'n/a', '')
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return "n/a" if math.isnan(value) else str(value)
    return str(value) if isinstance(value, int) else f"{value:.3f}" if abs(value) < 1000 else f"{value:.0f}"
