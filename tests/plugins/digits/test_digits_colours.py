"""Stacked and coloured digits: what a row shows is what it says, and splits share no digit."""

import numpy as np
import pytest

from fusion_engine_digits.coloured import COLOURS, ColouredDigits
from fusion_engine_digits.source import read
from fusion_engine_digits.stacked import StackedDigits


@pytest.fixture(scope="module")
def known() -> dict[bytes, set[tuple[int, bool]]]:
    """By pixels: the labels of the packaged images, and whether they are of the test split."""
    source = read(None, {"image", "label"}, 0)
    found: dict[bytes, set[tuple[int, bool]]] = {}
    for image, label, test in zip(source.image, source.label, source.test, strict=True):
        found.setdefault(image.tobytes(), set()).add((int(label), bool(test)))
    return found


@pytest.fixture(scope="module")
def stacked() -> StackedDigits:
    return StackedDigits(rows=400, validation=50, test=300, seed=1)


def test_each_colour_is_a_digit_of_the_label_and_of_the_split(stacked, known):
    for rows, test in ((stacked.train, False), (stacked.validation, False), (stacked.test, True)):
        for row in rows:
            assert row["image"].shape == (8, 8, 3)
            for c, digit in enumerate(f"{row['label']:03d}"):
                assert (int(digit), test) in known[np.ascontiguousarray(row["image"][:, :, c]).tobytes()]


def test_no_training_digit_is_a_test_digit(stacked):
    digits = {test: {row["image"].tobytes() for row in stacked.digits(test=test)} for test in (False, True)}
    used = {np.ascontiguousarray(r["image"][:, :, c]).tobytes() for r in stacked.train for c in range(3)}
    assert used <= digits[False]
    assert len(used & digits[True]) <= 1  # two writers may have drawn the same 64 pixels
    assert (len(stacked.digits()), len(stacked.digits(test=True))) == (1437, 360)


def test_digits_of_a_row_are_independent_and_modes_equal():
    labels = np.array([row["label"] for row in StackedDigits(rows=30_000).train])
    share = np.bincount(labels, minlength=1000) / len(labels)
    assert (share > 0).all()
    kl = float((share * np.log(share * 1000)).sum())
    assert kl < 0.025  # (1000 - 1) / 2n is .0167; the digits are not quite equally frequent
    places = [labels // 100, labels // 10 % 10, labels % 10]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        table = np.histogram2d(places[i], places[j], bins=10)[0] / len(labels)
        alone = table.sum(1, keepdims=True) * table.sum(0, keepdims=True)
        assert np.abs(table / alone - 1).max() < 0.25


def test_draws_are_of_the_seed_and_the_split():
    def labels(rows):
        return [row["label"] for row in rows]

    first, again, other = (StackedDigits(rows=30, validation=30, seed=s) for s in (0, 0, 1))
    assert labels(first.train) == labels(again.train)
    assert labels(first.train) != labels(other.train)
    assert labels(first.train) != labels(first.validation)


def test_a_coloured_digit_is_ink_times_grey():
    data = ColouredDigits(size=8, seed=2)
    source = read(None, {"image", "label"}, 0)
    assert (len(data.train), len(data.validation), len(data.test)) == (1437, 0, 360)
    for i, row in enumerate(data.train[:50]):
        grey = source.image[i].astype(float)
        ratio = row["image"].astype(float) / np.array(COLOURS[row["colour"]])
        brightness = ratio.sum() / (3 * grey.sum() / 255)
        assert 0.79 < brightness < 1.01
        np.testing.assert_allclose(ratio, np.repeat(grey[:, :, None], 3, 2) / 255 * brightness, atol=0.03)
        assert row["label"] == source.label[i]


def test_colours_are_independent_of_digits_and_size():
    small, large = ColouredDigits(), ColouredDigits(size=20)
    assert small.train[0]["image"].shape == (64, 64, 3)
    assert [r["colour"] for r in small.train] == [r["colour"] for r in large.train]
    table = np.zeros((7, 10))
    for row in small.train:
        table[list(COLOURS).index(row["colour"]), row["label"]] += 1
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    assert ((table - expected) ** 2 / expected).sum() < 90  # chi squared of 54 degrees: .002 of draws are above
