"""Drawing sequences as SVG."""

import numpy as np

from fusion_engine import Media

_COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b")
_SIDE, _MARGIN = 100.0, 5.0


def pen_strokes(steps: np.ndarray) -> Media:
    """Draw steps [n 3] = (dx, dy, pen lifted after this point): y grows downwards."""
    points = steps[:, :2].cumsum(0)
    span = max(float(np.ptp(points, axis=0).max()), 1e-9)
    points = _MARGIN + (points - points.min(0)) / span * (_SIDE - 2 * _MARGIN)
    ends = np.flatnonzero(steps[:-1, 2] >= 0.5) + 1
    return _svg([_line(stroke, "#000000", 2.0) for stroke in np.split(points, ends)])


def line_plot(steps: np.ndarray) -> Media:
    """Draw each channel of steps [n c] as a line over time, all on one scale; larger values are higher."""
    n, c = steps.shape
    low, span = float(steps.min()), max(float(np.ptp(steps)), 1e-9)
    x = _MARGIN + np.arange(n) / max(n - 1, 1) * (_SIDE - 2 * _MARGIN)
    y = _SIDE - _MARGIN - (steps - low) / span * (_SIDE - 2 * _MARGIN)
    return _svg([_line(np.stack([x, y[:, i]], 1), _COLOURS[i % len(_COLOURS)], 1.0) for i in range(c)])


def _line(points: np.ndarray, colour: str, width: float) -> str:
    if len(points) == 1:
        x, y = points[0]
        return f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{width:g}" fill="{colour}"/>'
    path = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
    style = f'stroke="{colour}" stroke-width="{width:g}" stroke-linejoin="round" stroke-linecap="round"'
    return f'<polyline points="{path}" fill="none" {style}/>'


def _svg(elements: list[str]) -> Media:
    box = f'viewBox="0 0 {_SIDE:g} {_SIDE:g}" width="200" height="200"'
    content = "".join(['<rect width="100%" height="100%" fill="white"/>', *elements])
    return Media("image/svg+xml", f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{content}</svg>'.encode())
