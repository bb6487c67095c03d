"""Train on synthetic, test on real: by constructions whose accuracies are known."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from fusion_engine import DataError
from fusion_engine.evaluation.tstr import Labelled, both_ways

CENTRES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def rows(n: int, seed: int, centres: tuple[int, ...] = (0, 1, 2, 3), relabel=lambda c: c % 2) -> Labelled:
    """Tight clouds around corners of a square; corners 0 and 2 are of class 0, 1 and 3 of class 1."""
    random = np.random.default_rng(seed)
    corner = np.array(centres)[np.arange(n) % len(centres)]
    inputs = CENTRES[corner] + 0.1 * random.standard_normal((n, 2))
    return Labelled(inputs, [relabel(c) for c in corner.tolist()])


def nearest() -> KNeighborsClassifier:
    return KNeighborsClassifier(1)


REAL, HELD_OUT = rows(400, 0), rows(200, 1)


def test_a_perfect_generator_scores_as_real_data_does():
    found = both_ways(REAL, HELD_OUT, rows(400, 2), nearest)
    assert (found.synthetic_to_real, found.real_to_synthetic, found.real, found.chance) == (1, 1, 1, 0.5)
    assert found.n == 400


def test_wrong_labels_are_wrong_both_ways():
    found = both_ways(REAL, HELD_OUT, rows(400, 2, relabel=lambda c: 1 - c % 2), nearest)
    assert (found.synthetic_to_real, found.real_to_synthetic, found.real) == (0, 0, 1)


def test_lost_modes_are_seen_by_tstr_alone():
    """Classes split left and right; a generator of three corners that calls the fourth's neighbour right."""
    by_diagonal = lambda c: int(c in (0, 3))  # noqa: E731
    real, held_out = (rows(n, seed, relabel=by_diagonal) for n, seed in ((400, 0), (200, 1)))
    found = both_ways(real, held_out, rows(400, 2, (0, 1, 2), by_diagonal), nearest)
    assert found.real_to_synthetic == found.real == 1
    assert found.synthetic_to_real == 0.75  # the lost corner is nearest to two of the other class


def test_classifiers_learn_from_equal_numbers():
    seen = []

    class Counting(LogisticRegression):
        def fit(self, X, y):  # noqa: N803
            seen.append((len(X), len(y)))
            return super().fit(X, y)

    found = both_ways(REAL, HELD_OUT, rows(60, 2), Counting)
    assert seen == [(60, 60), (60, 60)]
    assert found.n == 60


def test_lists_do_as_well_as_arrays():
    as_list = Labelled(list(REAL.inputs), list(REAL.labels))
    assert both_ways(as_list, HELD_OUT, rows(60, 2), nearest) == both_ways(REAL, HELD_OUT, rows(60, 2), nearest)


def test_chance_is_the_share_of_the_most_frequent_label():
    held_out = Labelled(np.zeros((10, 2)), [0] * 7 + [1] * 3)
    assert both_ways(REAL, held_out, rows(40, 2), nearest).chance == 0.7


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Labelled(np.zeros((3, 2)), [0, 1]), "one label a row"),
        (Labelled(np.zeros((0, 2)), []), "one label a row"),
        (Labelled(np.zeros((3, 2)), [1, 1, 1]), "two classes"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(bad, words):
    with pytest.raises(DataError, match=words):
        both_ways(REAL, HELD_OUT, bad, nearest)
