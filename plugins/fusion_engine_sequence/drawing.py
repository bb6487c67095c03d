"""Drawing sequences as pictures."""

import io

import numpy as np
from PIL import Image, ImageDraw

from fusion_engine import Media

SIDE, MARGIN = 96, 8
"""Pixels of a picture's side and of its border."""
_SHARP = 4
_COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b")


def stroke_lines(steps: np.ndarray) -> list[np.ndarray]:
    """Split steps [n 3] = (dx, dy, pen lifted after this point) into strokes [k 2] in pixels; y grows downwards."""
    points = _fit(steps[:, :2].cumsum(0))
    return np.split(points, np.flatnonzero(steps[:-1, 2] >= 0.5) + 1)


def _fit(points: np.ndarray) -> np.ndarray:
    low, high = points.min(0), points.max(0)
    span = max(float((high - low).max()), 1e-9)
    fitted: np.ndarray = SIDE / 2 + (points - (low + high) / 2) / span * (SIDE - 2 * MARGIN)
    return fitted


def plot_lines(steps: np.ndarray) -> list[np.ndarray]:
    """Turn each channel of steps [n c] into a line over time, all on one scale; larger values are higher."""
    n, c = steps.shape
    low, span = float(steps.min()), max(float(np.ptp(steps)), 1e-9)
    x = MARGIN + np.arange(n) / max(n - 1, 1) * (SIDE - 2 * MARGIN)
    y = SIDE - MARGIN - (steps - low) / span * (SIDE - 2 * MARGIN)
    return [np.stack([x, y[:, i]], 1) for i in range(c)]


def pen_strokes(steps: np.ndarray) -> Media:
    """Draw pen strokes in black."""
    return _png([(line, "#000000", 3.0) for line in stroke_lines(steps)])


def line_plot(steps: np.ndarray) -> Media:
    """Draw each channel in a colour of its own."""
    return _png([(line, _COLOURS[i % len(_COLOURS)], 1.5) for i, line in enumerate(plot_lines(steps))])


def _png(lines: list[tuple[np.ndarray, str, float]]) -> Media:
    page = Image.new("RGB", (SIDE * _SHARP, SIDE * _SHARP), "white")
    pen = ImageDraw.Draw(page)
    for points, colour, width in lines:
        thick = width * _SHARP
        corners = [(float(x), float(y)) for x, y in points * _SHARP]
        if len(corners) > 1:
            pen.line(corners, fill=colour, width=round(thick), joint="curve")
        for x, y in corners:
            pen.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=colour)
    file = io.BytesIO()
    page.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(file, "PNG")
    return Media("image/png", file.getvalue())
