"""Curves and the area under them; corruptions have the power and the deviation that their level says."""

import numpy as np
import pytest
from sklearn.metrics import auc

from fusion_engine import DataError
from fusion_engine.evaluation import (
    Score,
    area_under,
    corrupted,
    curves,
    image_noise,
    sequence_jitter,
    sound_noise,
)


def test_area_is_that_of_trapezoids_over_the_range() -> None:
    levels, values = [0.0, 0.1, 0.5, 2.0], [0.9, 0.8, 0.3, 0.1]
    assert area_under(levels, values) == pytest.approx(auc(levels, values) / 2)
    assert area_under(levels[::-1], values[::-1]) == pytest.approx(area_under(levels, values))
    assert area_under([3.0, 5.0], [0.25, 0.75]) == 0.5
    assert area_under([0.0, 1.0, 10.0], [0.7, 0.7, 0.7]) == pytest.approx(0.7)


def test_more_area_is_better_whatever_the_score() -> None:
    better, worse = [0.1, 0.2], [0.1, 0.9]  # of a loss
    assert area_under([0.0, 1.0], better, higher=False) > area_under([0.0, 1.0], worse, higher=False)
    assert area_under([0.0, 1.0], worse, higher=False) == -0.5

    def measure(level: float) -> list[Score]:
        shared = [Score("accuracy", 1 - level), Score("loss", level, higher=False)]
        return [*shared, Score("sometimes", 0.0)] if level else shared

    accuracy, loss = curves(measure, [0.0, 0.5, 1.0])
    assert (accuracy.name, accuracy.levels, accuracy.values, accuracy.area) == (
        "accuracy",
        (0.0, 0.5, 1.0),
        (1.0, 0.5, 0.0),
        0.5,
    )
    assert (loss.name, loss.area) == ("loss", -0.5)


def test_what_is_no_curve_is_refused() -> None:
    for levels, values in (([1.0], [1.0]), ([1.0, 1.0], [0.0, 1.0]), ([0.0, 1.0], [0.0])):
        with pytest.raises(DataError, match="no curve"):
            area_under(levels, values)
    with pytest.raises(DataError, match="NaN"):
        area_under([0.0, float("inf")], [1.0, 1.0])
    with pytest.raises(DataError, match="no levels"):
        curves(lambda level: [], [])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("image", "top"),
    [(np.full((64, 64), 128, np.uint8), 255), (np.full((64, 64, 3), 100.0), 255), (np.full((64, 64), 0.5, "f4"), 1)],
)
def test_image_noise_has_its_deviation_in_units_of_the_range(image: np.ndarray, top: float) -> None:
    noisy = image_noise(image, 0.05, rng())
    assert noisy.dtype == image.dtype
    assert (noisy.astype(float) - image).std() / top == pytest.approx(0.05, rel=0.03)
    loud = image_noise(image, 5.0, rng())
    assert (loud.min(), loud.max()) == (0, top)
    np.testing.assert_array_equal(image_noise(image, 0.0, rng()), image)


@pytest.mark.parametrize("decibels", [-5.0, 0.0, 20.0])
def test_sound_noise_has_its_ratio_of_signal_to_noise(decibels: float) -> None:
    sound = np.sin(np.arange(20_000) / 7).astype(np.float32) * 0.3
    noisy, rate = sound_noise((sound, 8000), decibels, rng())
    assert (noisy.dtype, rate) == (np.float32, 8000)
    noise = noisy.astype(float) - sound
    assert 10 * np.log10((sound.astype(float) ** 2).mean() / (noise**2).mean()) == pytest.approx(decibels, abs=0.1)
    assert not sound_noise(np.zeros(10), decibels, rng()).any()


def test_jitter_is_in_deviations_of_each_channel_and_leaves_the_pen_alone() -> None:
    pen = np.arange(5000) % 2
    strokes = np.stack([rng(1).normal(3, 2, 5000), rng(2).normal(0, 0.1, 5000), pen], 1).astype(np.float32)
    moved = sequence_jitter(strokes, 0.5, rng()) - strokes
    np.testing.assert_allclose(moved.std(0), [0.5 * 2, 0.5 * 0.1, 0], rtol=0.05)
    assert sequence_jitter([[1, 5], [2, 6]], 1.0, rng()).dtype == np.float32


def test_noise_is_keyed_by_row_and_the_same_at_every_level() -> None:
    rows = [{"a": np.full((8, 8), 0.5), "b": i} for i in range(3)] + [{"a": None, "b": 3}]
    one, two = (corrupted(rows, "a", level, "image") for level in (0.01, 0.02))
    for i in range(3):
        np.testing.assert_allclose(two[i]["a"] - 0.5, 2 * (one[i]["a"] - 0.5), atol=1e-12)
        assert one[i]["b"] == i
    assert not np.array_equal(one[0]["a"], one[1]["a"])
    np.testing.assert_array_equal(corrupted(rows[:2], "a", 0.01, "image")[1]["a"], one[1]["a"])
    assert not np.array_equal(corrupted(rows, "a", 0.01, "image", seed=1)[0]["a"], one[0]["a"])
    assert one[3] == rows[3]
    assert (rows[0]["a"] == 0.5).all()
    assert corrupted(rows[:1], "b", 2.0, lambda raw, level, rng: raw + level)[0]["b"] == 2.0


def test_levels_that_mean_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="did you mean 'image'"):
        corrupted([{"a": 1}], "a", 0.1, "imgae")
    for function in (image_noise, sequence_jitter):
        with pytest.raises(DataError, match="at least 0"):
            function(np.ones((2, 2)), -1.0, rng())
    with pytest.raises(DataError, match="finite"):
        sound_noise(np.ones(3), float("inf"), rng())
    with pytest.raises(DataError, match="floating point"):
        sound_noise(np.ones(3, np.int16), 3.0, rng())
