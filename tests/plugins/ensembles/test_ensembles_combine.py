"""Rules that learn nothing about the members: against scikit-learn, against loops, and with members that abstain."""

import math
import warnings
from typing import ClassVar

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator

from fusion_engine import ConfigError, DataError
from fusion_engine_ensembles.averaging import Averaging
from fusion_engine_ensembles.blending import Blending
from fusion_engine_ensembles.evidential import Evidential
from fusion_engine_ensembles.geometric_averaging import GeometricAveraging
from fusion_engine_ensembles.greedy_selection import GreedySelection
from fusion_engine_ensembles.hard_voting import HardVoting
from fusion_engine_ensembles.members import Outputs, Trained
from fusion_engine_ensembles.stacking import Stacking
from fusion_engine_ensembles.weighted_averaging import WeightedAveraging

X, NUMBERS = load_iris(return_X_y=True)
Y = np.array(["setosa", "versicolor", "virginica"])[NUMBERS]
TREE = DecisionTreeClassifier(max_depth=1, random_state=0)
MEMBERS = [("tree", TREE), ("bayes", GaussianNB()), ("near", KNeighborsClassifier(30))]
NAN = [math.nan, math.nan]


def recorded(*answers, y=("x", "y", "y", "y"), make=Averaging, **config):
    """Fit an ensemble to members that have answered four rows each: a vector of two probabilities, or None."""
    members = [(f"m{i}", Outputs(f"m{i}", ["x", "y"])) for i in range(len(answers))]
    rows = [{f"m{i}": a[n] for i, a in enumerate(answers)} for n in range(4)]
    return make(members, **config).fit(rows, list(y)), rows


@pytest.mark.parametrize("weights", [None, [3.0, 1.0, 1.5]])
def test_voting_is_that_of_scikit_learn(weights):
    soft = VotingClassifier(MEMBERS, voting="soft", weights=weights).fit(X, Y)
    hard = VotingClassifier(MEMBERS, voting="hard", weights=weights).fit(X, Y)
    mean = WeightedAveraging(MEMBERS, weights=weights or [1.0, 1.0, 1.0]).fit(X, Y)
    votes = HardVoting(MEMBERS, weights=weights).fit(X, Y)
    np.testing.assert_allclose(mean.predict_proba(X), soft.predict_proba(X), rtol=1e-12)
    np.testing.assert_array_equal(mean.predict(X), soft.predict(X))
    np.testing.assert_array_equal(votes.predict(X), hard.predict(X))
    assert len({*votes.predict_proba(X).max(1).round(9)}) > 1  # members disagree somewhere
    if weights is None:
        np.testing.assert_allclose(Averaging(MEMBERS).fit(X, Y).predict_proba(X), soft.predict_proba(X), rtol=1e-12)


def test_who_abstains_is_left_out_and_nobody_gives_the_frequencies():
    first, second = [[0.9, 0.1], None, [0.2, 0.8], None], [[0.6, 0.4], [0.3, 0.7], None, None]
    ensemble, rows = recorded(first, second)
    expected = [[0.75, 0.25], [0.3, 0.7], [0.2, 0.8], [0.25, 0.75]]
    np.testing.assert_allclose(ensemble.predict_proba(rows), expected)
    assert list(ensemble.predict(rows)) == ["x", "y", "y", "y"]
    votes, _ = recorded(first, second, make=HardVoting, weights=[1.0, 3.0])
    np.testing.assert_allclose(votes.predict_proba(rows), [[1, 0], [0, 1], [0, 1], [0.25, 0.75]])
    weighed, _ = recorded(first, second, make=WeightedAveraging, weights=[2.0, 0.0])
    np.testing.assert_allclose(weighed.predict_proba(rows), [[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.25, 0.75]])


def test_votes_are_shares_and_equals_go_to_the_first_class():
    ensemble, rows = recorded([[0.5, 0.5], [0.1, 0.9]] * 2, [[0.4, 0.6], [0.9, 0.1]] * 2, make=HardVoting)
    np.testing.assert_allclose(ensemble.predict_proba(rows), np.full([4, 2], 0.5))
    assert list(ensemble.predict(rows)) == ["x"] * 4


def test_the_geometric_mean_is_the_normalised_product_of_those_who_answer():
    random = np.random.default_rng(0)
    answers = random.dirichlet([1, 1], size=(3, 4))
    answers[0, 1] = answers[1, 1] = answers[2, 2] = NAN
    ensemble, rows = recorded(
        *[[None if np.isnan(p).any() else p for p in a] for a in answers], make=GeometricAveraging
    )
    for n, found in enumerate(ensemble.predict_proba(rows)):
        given = [a[n] for a in answers if not np.isnan(a[n]).any()]
        product = [math.prod(p[c] for p in given) ** (1 / len(given)) for c in range(2)]
        np.testing.assert_allclose(found, np.array(product) / sum(product), rtol=1e-12)


def test_a_veto_is_never_final():
    ensemble, rows = recorded([[1.0, 0.0]] * 4, [[0.0, 1.0]] * 4, make=GeometricAveraging, floor=1e-4)
    np.testing.assert_allclose(ensemble.predict_proba(rows), np.full([4, 2], 0.5))
    nobody, rows = recorded([None] * 4, make=GeometricAveraging)
    np.testing.assert_allclose(nobody.predict_proba(rows), [[0.25, 0.75]] * 4)


def test_classes_are_matched_by_name_and_may_be_missing_from_members_or_labels():
    rows = [{"first": [0.1, 0.7, 0.2], "second": [0.6, 0.4]}]
    members = [("a", Outputs("first", ["red", "blue", "green"])), ("b", Outputs("second", ["grey", "red"]))]
    ensemble = Averaging(members).fit(rows, ["red"])
    assert list(ensemble.classes_) == ["blue", "green", "grey", "red"]
    np.testing.assert_allclose(ensemble.predict_proba(rows), [[0.35, 0.1, 0.3, 0.25]])


def test_text_is_never_taken_for_a_number():
    rows = [{"first": [0.1, 0.9]}]
    with pytest.raises(DataError, match="do not name the classes alike"):
        Averaging([Outputs("first", [0, 1])]).fit(rows, ["0"])


def test_trained_members_stay_as_they_are():
    class Foreign:
        classes_ = ("y", "x")

        def predict_proba(self, rows):
            return [[0.9, 0.1] for _ in rows]

    ensemble = clone(Averaging([Foreign()])).fit([[0.0], [1.0]], ["x", "x"])
    np.testing.assert_allclose(ensemble.predict_proba([[3.0]]), [[0.1, 0.9]])
    kept = Trained(GaussianNB().fit(X, Y))
    assert clone(Averaging([kept])).members[0] is kept
    assert Averaging([kept]).fit(X[:100], Y[:100]).classes_.tolist() == sorted({*Y})


def test_members_are_parameters_as_in_scikit_learn():
    ensemble = Averaging(MEMBERS)
    assert ensemble.get_params()["tree__max_depth"] == 1
    ensemble = clone(ensemble).set_params(tree__max_depth=2, bayes=LogisticRegression(C=0.5), near__n_neighbors=3)
    assert [type(m).__name__ for _, m in ensemble.members] == [
        "DecisionTreeClassifier", "LogisticRegression", "KNeighborsClassifier",
    ]  # fmt: skip
    assert (ensemble.get_params()["tree__max_depth"], TREE.max_depth) == (2, 1)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([], "names of their own"),
        ([("a", TREE), ("a", TREE)], "names of their own"),
        ([("a__b", TREE)], "names of their own"),
        ([("a", BaseEstimator())], "cannot say how likely"),
    ],
)
def test_wrong_members_are_refused(members, words):
    with pytest.raises(ConfigError, match=words):
        Averaging(members).fit(X, Y)


class Counts(GaussianNB):
    """Say in ``fits`` that it has been trained."""

    fits: ClassVar[list[int]] = []

    def fit(self, rows, labels):
        self.fits.append(len(rows))
        return super().fit(rows, labels)


@pytest.mark.parametrize("make", [WeightedAveraging, HardVoting])
@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0, 0.0]])
def test_weights_that_do_not_fit_are_refused_before_anything_is_trained(make, weights):
    Counts.fits.clear()
    with pytest.raises(ConfigError, match="weights do not fit"):
        make([("a", Counts()), ("b", Counts()), ("c", Counts())], weights=weights).fit(X, Y)
    assert not Counts.fits


@pytest.mark.parametrize(
    ("make", "key", "value", "said"),
    [
        (Evidential, "strength", -1, ["strength is wrong", "expected: greater than 0", "actual: -1 (int)"]),
        (GeometricAveraging, "floor", 0.0, ["floor is wrong", "actual: 0.0 (float)"]),
        (HardVoting, "weights", [1, -1, 1], ["weights[1] is wrong", "actual: -1 (int)"]),
        (HardVoting, "weights", 3, ["weights is wrong", "actual: 3 (int)"]),
        (WeightedAveraging, "least", 1.0, ["least is wrong", "expected: less than 1"]),
        (GreedySelection, "metric", "auc", ["metric is wrong", "expected: 'log_loss' or 'accuracy'", "'auc' (str)"]),
        (Stacking, "cv", 1, ["cv is wrong", "expected: greater than or equal to 2", "actual: 1 (int)"]),
        (Blending, "share", 1.5, ["share is wrong", "expected: less than 1", "actual: 1.5 (float)"]),
    ],
)
def test_parameters_are_checked_in_fit_by_their_own_annotations(make, key, value, said):
    ensemble = make(MEMBERS).set_params(**{key: value})  # as a search over parameters sets them
    with pytest.raises(ConfigError) as caught:
        ensemble.fit(X, Y)
    for fragment in [f"ensemble {make.__name__}", *said]:
        assert fragment in str(caught.value)


def test_weights_may_be_an_array():
    plain = HardVoting(MEMBERS, weights=[3.0, 1.0, 1.5]).fit(X, Y)
    votes = HardVoting(MEMBERS).set_params(weights=np.array([3.0, 1.0, 1.5])).fit(X, Y)
    np.testing.assert_array_equal(votes.predict(X), plain.predict(X))


@pytest.mark.parametrize(
    "ensemble",
    [
        Averaging(MEMBERS[:2]),
        HardVoting(MEMBERS[:2]),
        GeometricAveraging(MEMBERS[:2]),
        WeightedAveraging(MEMBERS[:2], cv=2),
        GreedySelection(MEMBERS[:2], cv=2, rounds=2),
        Stacking(MEMBERS[:2], cv=2),
        Blending(MEMBERS[:2]),
        Evidential(MEMBERS[:2]),
    ],
    ids=lambda e: type(e).__name__,
)
def test_scikit_learn_takes_it_for_one_of_its_own(ensemble):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks fit to odd data, of which members may warn
        found = check_estimator(ensemble, on_fail=None, on_skip=None)
    failed = [(f["check_name"], f["exception"]) for f in found if f["status"] == "failed"]
    assert [f for f in failed if "Type-check error" not in str(f[1])] == []  # the tests' own, at `members=-1`
    assert len(found) > 40
