"""Make embedded_digits.npz: scikit-learn's digits with pen strokes traced from each image.

Usage: ``python build_digits.py OUT.npz``. Needs scikit-learn and scikit-image (the extra ``data``).
The README beside this file describes what is written.
"""

import sys
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize
from skimage.transform import resize
from sklearn.datasets import load_digits

UP = 6  # how many pixels of the enlarged image make one of the original
STEP = 0.75  # pixels of the original between two points of a stroke
FIRST_TEST_ROW = 1437
NEIGHBOURS = ((-1, 0), (0, 1), (1, 0), (0, -1), (-1, 1), (1, 1), (1, -1), (-1, -1))  # orthogonal ones first

Pixel = tuple[int, int]
"""(row, column) in the enlarged image."""
Path = list[Pixel]
Points = NDArray[np.float64]
"""[n, 2], rows and columns in the enlarged image."""


def skeleton(image: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Thin an image [8, 8] (0..16) to lines one pixel wide, on a grid enlarged UP times with a border of one pixel."""
    side = (image.shape[0] + 2) * UP
    big = resize(np.pad(image / 16.0, 1), (side, side), order=3)
    return np.asarray(skeletonize(big > 0.5 * big.max()), dtype=np.bool_)


def around(pixel: Pixel, left: set[Pixel]) -> Path:
    """List the neighbours of a pixel that are still to be drawn."""
    near = ((pixel[0] + dr, pixel[1] + dc) for dr, dc in NEIGHBOURS)
    return [p for p in near if p in left]


def start(left: set[Pixel], last: Pixel | None) -> Pixel:
    """Choose where to set the pen down: at a loose end, near the top left at first and near the last point later.

    Ties fall to the order of the set. Hashes of integers are not salted, so it is the same in every run of CPython.
    """
    candidates = [p for p in left if len(around(p, left)) <= 1] or list(left)
    if last is None:
        return min(candidates, key=lambda p: p[0] + 0.5 * p[1])
    return min(candidates, key=lambda p: abs(p[0] - last[0]) + abs(p[1] - last[1]))


def straightest(pixel: Pixel, options: Path, heading: tuple[float, float] | None) -> Pixel:
    """Choose the next pixel: the one most in the pen's direction."""
    if heading is None:
        return options[0]

    def along(p: Pixel) -> float:
        dr, dc = p[0] - pixel[0], p[1] - pixel[1]
        return float((dr * heading[0] + dc * heading[1]) / np.hypot(dr, dc))

    return max(options, key=along)


def walk(pixel: Pixel, left: set[Pixel]) -> Path:
    """Draw from a pixel until the pen is stuck, taking what is drawn out of ``left``; the heading is smoothed."""
    path: Path = [pixel]
    heading: tuple[float, float] | None = None
    left.discard(pixel)
    while options := around(pixel, left):
        following = straightest(pixel, options, heading)
        dr, dc = following[0] - pixel[0], following[1] - pixel[1]
        heading = (dr, dc) if heading is None else (0.6 * heading[0] + 0.4 * dr, 0.6 * heading[1] + 0.4 * dc)
        pixel = following
        path.append(pixel)
        left.discard(pixel)
    return path


def trace(lines: NDArray[np.bool_]) -> list[Path]:
    """Cover a skeleton with strokes; leave out those of fewer than three pixels, unless there are no others."""
    left = {(int(r), int(c)) for r, c in np.argwhere(lines)}
    strokes: list[Path] = []
    while left:
        path = walk(start(left, strokes[-1][-1] if strokes else None), left)
        if len(path) >= 3 or not strokes:
            strokes.append(path)
    return [s for s in strokes if len(s) >= 3] or strokes[:1]


def resample(path: Path) -> Points:
    """Place points at equal steps of about STEP along a path."""
    points = np.array(path, float)
    if len(points) < 2:
        return points
    run = np.r_[0, np.cumsum(np.hypot(*np.diff(points, axis=0).T))]
    at = np.linspace(0, run[-1], max(2, round(run[-1] / (STEP * UP)) + 1))
    return np.stack([np.interp(at, run, points[:, 0]), np.interp(at, run, points[:, 1])], 1)


def steps(strokes: Iterable[Points]) -> NDArray[np.float32]:
    """Join strokes to [n, 3]: dx, dy in pixels of the original, and 1 where the pen is lifted after the point."""
    strokes = list(strokes)
    at = np.concatenate(strokes)[:, ::-1].astype(np.float32) / UP - 1
    lifted = np.concatenate([np.r_[np.zeros(len(s) - 1), 1] for s in strokes])
    moved = np.diff(at, axis=0, prepend=np.zeros((1, 2), np.float32))
    return np.column_stack([moved, lifted]).astype(np.float32)


def strokes_of(image: NDArray[np.float64]) -> NDArray[np.float32]:
    """Trace an image [8, 8] (0..16) into pen strokes [n, 3]."""
    return steps(resample(path) for path in trace(skeleton(image)))


def build(out: str) -> None:
    """Write the data set."""
    digits = load_digits()
    drawn = [strokes_of(image) for image in digits.images]
    strokes = np.zeros((len(drawn), max(map(len, drawn)), 3), np.float16)
    for row, points in zip(strokes, drawn, strict=True):
        row[: len(points)] = points
    np.savez_compressed(
        out,
        image=digits.images.astype(np.uint8),
        strokes=strokes,
        length=np.array([len(s) for s in drawn], np.int8),
        label=digits.target.astype(np.int8),
        test=(np.arange(len(drawn)) >= FIRST_TEST_ROW).astype(np.int8),
    )


if __name__ == "__main__":
    build(sys.argv[1])
