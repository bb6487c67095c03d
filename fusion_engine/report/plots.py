"""Charts as inline SVG: loss curves in small multiples, and a figure beside what real data and chance get.

Colours are the page's CSS variables, so that a chart follows its theme. Coordinates are pixels of the view box.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

WIDTH, HEIGHT = 300, 170
LEFT, RIGHT, TOP, BOTTOM = 40.0, 8.0, 22.0, 30.0
"""Margins around the plot: numbers left, stages above, steps below."""
DECADES = 100.0
"""From this ratio of the largest to the smallest value on, all positive, the axis is logarithmic."""


@dataclass(frozen=True)
class Point:
    """One epoch's mean of one loss; ``place`` counts the epochs of the whole run."""

    step: float
    value: float
    stage: str
    epoch: int
    place: int


@dataclass(frozen=True)
class Span:
    """The steps of one stage."""

    name: str
    start: float
    end: float


def spans(history: Sequence[Mapping[str, Any]]) -> list[Span]:
    """Read the stages off a history: each starts where the one before ends."""
    found: list[Span] = []
    for row in history:
        name, step = str(row.get("stage", "")), float(row.get("step", 0))
        if found and found[-1].name == name:
            found[-1] = Span(name, found[-1].start, step)
        else:
            found.append(Span(name, found[-1].end if found else 0.0, step))
    return found


def curves(history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[Point]]]:
    """Sort a history's numbers by player and loss; what is not finite is left out."""
    found: dict[str, dict[str, list[Point]]] = {}
    for place, row in enumerate(history):
        at = (float(row.get("step", place)), str(row.get("stage", "")), int(row.get("epoch", place)))
        for key, value in row.items():
            if key in ("stage", "epoch", "step") or not isinstance(value, int | float) or not math.isfinite(value):
                continue
            player, _, loss = key.rpartition("/")
            line = found.setdefault(player, {}).setdefault(loss, [])
            line.append(Point(at[0], float(value), at[1], at[2], place))
    return found


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Choose round numbers between two, at most so many: multiples of 1, 2 or 5 times a power of ten.

    >>> ticks(0.0, 10.0)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    >>> ticks(0.12, 0.61)
    [0.2, 0.3, 0.4, 0.5, 0.6]
    """
    if not low < high:
        return [low]
    power = math.floor(math.log10((high - low) / most))
    for step in (m * 10.0**p for p in (power, power + 1) for m in (1, 2, 5)):
        inside = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
        if len(inside) <= most:
            break
    return [round(i * step, 12) for i in inside]


@dataclass(frozen=True)
class Axis:
    """Maps values between ``low`` and ``high`` to pixels between ``start`` and ``end``."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high, x = (math.log10(v) for v in (self.low, self.high, value)) if self.logarithmic else self._plain(value)
        return round(self.start + (x - low) / (high - low) * (self.end - self.start), 2)

    def _plain(self, value: float) -> tuple[float, float, float]:
        return self.low, self.high, value

    @property
    def marks(self) -> list[float]:
        """Round values along it."""
        if not self.logarithmic:
            return ticks(self.low, self.high)
        powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
        return [10.0**p for p in powers][:: max(1, len(powers) // 4)]


def value_axis(values: Sequence[float], start: float = HEIGHT - BOTTOM, end: float = TOP) -> Axis:
    """Fit an axis around values: logarithmic where they are positive and span decades."""
    low, high = min(values), max(values)
    if low > 0 and high / low >= DECADES:
        return Axis(10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high)), start, end, True)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return Axis(low - margin, high + margin, start, end)


def line_chart(title: str, points: Sequence[Point], stages: Sequence[Span], player: str = "") -> Markup:
    """Draw one loss over the steps of training, with the stages' bounds; the line breaks where the loss is not active.

    The points stand in ``data-points`` as [x, y, place, text], for a script to show on hover.
    """
    x = Axis(0.0, max(1.0, stages[-1].end if stages else points[-1].step), LEFT, WIDTH - RIGHT)
    y = value_axis([p.value for p in points])
    data = [[x(p.step), y(p.value), p.place, f"{p.stage} {p.epoch + 1}: {p.value:.4g}"] for p in points]
    label = f"{title} over training steps: first {points[0].value:.4g}, last {points[-1].value:.4g}"
    parts = [
        Markup('<svg class="chart {}" viewBox="0 0 {} {}" role="img" tabindex="0" aria-label="{}" data-points="{}">'),
        _grid(x, y),
        _stages(stages, x),
        *(_segment([(x(p.step), y(p.value)) for p in part]) for part in _unbroken(points)),
        Markup('<g class="cursor" visibility="hidden"><line y1="{}" y2="{}"/><circle r="3.5"/></g></svg>').format(
            TOP, HEIGHT - BOTTOM
        ),
    ]
    parts[0] = parts[0].format(player, WIDTH, HEIGHT, label, json.dumps(data))
    return Markup("\n").join(parts)


def _unbroken(points: Sequence[Point]) -> list[list[Point]]:
    parts: list[list[Point]] = []
    for p in points:
        if parts and p.place == parts[-1][-1].place + 1:
            parts[-1].append(p)
        else:
            parts.append([p])
    return parts


def _segment(corners: Sequence[tuple[float, float]]) -> Markup:
    if len(corners) == 1:
        return Markup('<circle class="dot" cx="{}" cy="{}" r="2.5"/>').format(*corners[0])
    return Markup('<polyline class="curve" points="{}"/>').format(" ".join(f"{x},{y}" for x, y in corners))


def _grid(x: Axis, y: Axis) -> Markup:
    parts = []
    for mark in y.marks:
        at = y(mark)
        line = Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="y" x="{}" y="{}">{}</text>')
        parts.append(line.format(x.start, x.end, at, at, x.start - 6, round(at + 3.5, 2), short(mark)))
    base = HEIGHT - BOTTOM
    for mark in ticks(x.low, x.high):
        parts.append(Markup('<text class="x" x="{}" y="{}">{}</text>').format(x(mark), base + 13, short(mark)))
    parts.append(Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(x.start, x.end, base, base))
    scale = "step" + (", values on a logarithmic axis" if y.logarithmic else "")
    parts.append(Markup('<text class="x" x="{}" y="{}">{}</text>').format((x.start + x.end) / 2, HEIGHT - 4, scale))
    return Markup("\n").join(parts)


def _stages(stages: Sequence[Span], x: Axis) -> Markup:
    """Mark where stages begin; a name stands there if it has room."""
    parts = []
    for span in stages:
        start, width = x(span.start), x(span.end) - x(span.start)
        if span is not stages[0]:
            line = Markup('<line class="stage" x1="{}" x2="{}" y1="{}" y2="{}"/>')
            parts.append(line.format(start, start, TOP - 12, HEIGHT - BOTTOM))
        if width > 5.6 * len(span.name) + 6:
            parts.append(Markup('<text class="stage" x="{}" y="{}">{}</text>').format(start + 4, TOP - 6, span.name))
    return Markup("\n").join(parts)


def short(value: float) -> str:
    """Write a number in few characters."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * size or (abs(value) >= size and value % (size / 10) == 0):
            return f"{value / size:.3g}{letter}"
    return f"{value:.{4 if 1000 <= abs(value) < 10000 else 3}g}".replace("e-0", "e-")


BAR = 120
"""Pixels of a figure's bar."""


def bar(value: float | None, real: float | None, chance: float | None, *, most: float = 1.0) -> Markup:
    """Draw a figure as a bar from zero, with a mark where real data stands and a thin one for chance.

    Args:
        value: of the model; None where it is not known.
        real: of real data.
        chance: of guessing.
        most: what fills the bar.
    """
    known = [v for v in (value, real, chance) if v is not None]
    if not known or min(known) < 0:
        return Markup("")
    scale, rect = BAR / most, Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>')
    parts = [
        Markup(
            '<svg class="bar" viewBox="0 0 {} 14" width="{}" height="14" preserveAspectRatio="none" aria-hidden="true">'
        ).format(BAR, BAR)
    ]
    parts.append(rect.format("track", 0, 4, BAR, 6))
    if value is not None:
        parts.append(rect.format("value", 0, 4, round(value * scale, 2), 6))
    for kind, mark, width in (("chance", chance, 2), ("real", real, 2)):
        if mark is not None:
            left = round(min(max(mark * scale - width / 2, 0), BAR - width), 2)
            parts.append(rect.format(kind, left, 1, width, 12))
    return Markup("").join([*parts, Markup("</svg>")])
