"""Rules that are learned from rows which the members did not learn from, against brute force and scikit-learn."""

from itertools import product

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from fusion_engine import DataError
from fusion_engine_ensembles.blending import Blending
from fusion_engine_ensembles.greedy_selection import GreedySelection
from fusion_engine_ensembles.members import Outputs
from fusion_engine_ensembles.stacking import Stacking
from fusion_engine_ensembles.weighted_averaging import WeightedAveraging

X, NUMBERS = load_iris(return_X_y=True)
Y = np.array(["setosa", "versicolor", "virginica"])[NUMBERS]
MEMBERS = [
    ("stump", DecisionTreeClassifier(max_depth=1, random_state=0)),
    ("bayes", GaussianNB()),
    ("line", LogisticRegression(C=0.01)),
]


def pooled(answers, weights, prior):
    """Average row by row over the members that answer; equally where none of those has weight."""
    rows = []
    for n in range(answers.shape[1]):
        given = [m for m in range(len(answers)) if not np.isnan(answers[m, n]).any()]
        w = [weights[m] for m in given]
        w = w if sum(w) > 0 else [1.0] * len(given)
        rows.append(sum(a * answers[m, n] for a, m in zip(w, given)) / sum(w) if given else prior)
    return np.array(rows)


def cost(p, truth):
    return -np.mean([np.log(max(row[t], 1e-15)) for row, t in zip(p, truth)])


def recorded(seed, m=3, c=3, n=60, gaps=0.0, skills=(0.5, 2.0)):
    """Draw what m members of different skill say about n rows, and the true classes 0 ... c - 1."""
    random = np.random.default_rng(seed)
    truth = random.integers(c, size=n)
    scores = random.normal(size=(m, n, c)) + np.eye(c)[truth] * np.linspace(*skills, m)[:, None, None]
    answers = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    answers[random.random([m, n]) < gaps] = np.nan
    rows = [{f"m{i}": None if np.isnan(answers[i, k]).any() else answers[i, k] for i in range(m)} for k in range(n)]
    return [(f"m{i}", Outputs(f"m{i}", list(range(c)))) for i in range(m)], rows, truth, answers


@pytest.mark.parametrize("gaps", [0.0, 0.4])
def test_weights_are_the_best_of_the_simplex(gaps):
    members, rows, truth, answers = recorded(0, gaps=gaps, skills=(1.0, 1.2))
    ensemble = WeightedAveraging(members).fit(rows, truth)
    answered = ~np.isnan(answers).any(-1)
    answered = answered.any(0)
    answers, truth = answers[:, answered], truth[answered]
    grid = [np.array([i, j, 25 - i - j]) / 25 for i, j in product(range(26), repeat=2) if i + j <= 25]
    costs = [cost(pooled(answers, w + 1e-9, ensemble.prior_), truth) for w in grid]
    found = cost(pooled(answers, ensemble.weights_, ensemble.prior_), truth)
    assert found <= min(costs) + 1e-9
    assert np.abs(ensemble.weights_ - grid[int(np.argmin(costs))]).max() < 0.06
    assert ensemble.weights_.sum() == pytest.approx(1)
    assert ensemble.weights_.min() > 0.02  # inside, where the best point of the grid is near the best of all


def test_weights_of_members_to_be_trained_come_from_out_of_fold_answers():
    ensemble = WeightedAveraging(MEMBERS, cv=3).fit(X, Y)
    answers = np.stack([cross_val_predict(m, X, Y, cv=3, method="predict_proba") for _, m in MEMBERS])
    grid = [np.array([i, j, 10 - i - j]) / 10 for i, j in product(range(11), repeat=2) if i + j <= 10]
    costs = [cost(pooled(answers, w, None), NUMBERS) for w in grid]
    assert cost(pooled(answers, ensemble.weights_, None), NUMBERS) <= min(costs) + 1e-3
    whole = [m.fit(X, Y).predict_proba(X) for _, m in MEMBERS]
    np.testing.assert_allclose(ensemble.predict_proba(X), np.einsum("m, m n c -> n c", ensemble.weights_, whole))


def climbed(answers, truth, prior, rounds, start, better):
    """Select greedily, by loops over counts."""
    m = len(answers)
    ranked = sorted(range(m), key=lambda i: better(pooled(answers, np.eye(m)[i], prior), truth))
    counts = np.array([float(i in ranked[:start]) for i in range(m)])
    path = [counts]
    for _ in range(rounds - start):
        tried = [counts + np.eye(m)[i] for i in range(m)]
        counts = min(tried, key=lambda w: better(pooled(answers, w, prior), truth))
        path.append(counts)
    return min(path, key=lambda w: better(pooled(answers, w, prior), truth))


@pytest.mark.parametrize("gaps", [0.0, 0.4])
@pytest.mark.parametrize("start", [1, 3])
@pytest.mark.parametrize("metric", ["log_loss", "accuracy"])
def test_greedy_selection_is_that_of_the_paper(gaps, start, metric):
    members, rows, truth, answers = recorded(1, m=5, gaps=gaps)
    ensemble = GreedySelection(members, rounds=8, start=start, metric=metric).fit(rows, truth)
    better = cost if metric == "log_loss" else lambda p, t: float(np.mean(p.argmax(1) != t))
    counts = climbed(answers, truth, ensemble.prior_, 8, start, better)
    np.testing.assert_allclose(ensemble.weights_, counts / counts.sum())
    expected = pooled(answers, counts, ensemble.prior_)
    np.testing.assert_allclose(ensemble.predict_proba(rows), expected, rtol=1e-9)


def test_bags_average_selections_from_random_halves_of_the_library():
    members, rows, truth, answers = recorded(2, m=6)
    ensemble = GreedySelection(members, rounds=5, bags=4, share=0.5, seed=3).fit(rows, truth)
    random, expected = np.random.default_rng(3), np.zeros(6)
    for _ in range(4):
        bag = np.sort(random.choice(np.arange(6), 3, replace=False))
        counts = climbed(answers[bag], truth, ensemble.prior_, 5, 1, cost)
        expected[bag] += counts / counts.sum() / 4
    np.testing.assert_allclose(ensemble.weights_, expected)


@pytest.mark.parametrize("classes", [2, 3])
def test_stacking_is_that_of_scikit_learn(classes):
    x, y = load_breast_cancer(return_X_y=True) if classes == 2 else (X, Y)
    x = x[:, :4] / x[:, :4].std(0)
    ours = Stacking(MEMBERS, LogisticRegression(C=2.0), cv=4).fit(x, y)
    theirs = StackingClassifier(MEMBERS, LogisticRegression(C=2.0), cv=4).fit(x, y)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), rtol=1e-9)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))


def test_stacking_of_trained_members_learns_from_their_answers_as_they_are():
    members, rows, truth, answers = recorded(3)
    ensemble = Stacking(members).fit(rows, truth)
    final = LogisticRegression().fit(np.concatenate([*answers], 1), truth)
    np.testing.assert_allclose(ensemble.predict_proba(rows), final.predict_proba(np.concatenate([*answers], 1)))


def test_stacking_fills_gaps_with_the_frequencies_and_says_where():
    members, rows, truth, answers = recorded(4, gaps=0.3)
    answers[2] = np.random.default_rng(0).dirichlet([1, 1, 1], size=60)
    answers[2, 5] = np.nan
    rows = [{**row, "m2": None if k == 5 else answers[2, k]} for k, row in enumerate(rows)]
    rows[5] = {}
    answers[:, 5] = np.nan
    ensemble = Stacking(members).fit(rows, truth)
    prior = np.bincount(truth) / 60
    columns = []
    for k in range(60):
        gap = [np.isnan(a[k]).any() for a in answers]
        filled = np.concatenate([prior if g else a[k] for g, a in zip(gap, answers)])
        columns.append(np.append(filled, [float(gap[0]), float(gap[1])]))  # the third one answers every other row
    kept = np.arange(60) != 5
    final = LogisticRegression().fit(np.array(columns)[kept], truth[kept])
    expected = final.predict_proba(np.array(columns))
    expected[5] = prior
    np.testing.assert_allclose(ensemble.predict_proba(rows), expected)


def test_stacking_gives_nothing_to_a_class_that_it_never_saw():
    members, rows, truth, _ = recorded(5)
    seen = [k for k in range(60) if truth[k] != 1]
    ensemble = Stacking(members).fit([rows[k] for k in seen], truth[seen])
    assert ensemble.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(ensemble.predict_proba(rows)[:, 1], np.zeros(60))
    np.testing.assert_allclose(ensemble.predict_proba(rows).sum(1), np.ones(60))


def test_learning_from_rows_that_nobody_answers_is_refused():
    with pytest.raises(DataError, match="no member answers any row"):
        Stacking([Outputs("a", [0, 1])]).fit([{}] * 6, [0, 1] * 3)


def test_blending_keeps_what_is_held_out_from_the_members():
    ensemble = Blending(MEMBERS, share=0.4, seed=5).fit(X, Y)
    part, held, y_part, y_held = train_test_split(X, Y, test_size=0.4, stratify=Y, random_state=5)
    trained = [m.fit(part, y_part) for _, m in MEMBERS]
    final = LogisticRegression().fit(np.concatenate([m.predict_proba(held) for m in trained], 1), y_held)
    expected = final.predict_proba(np.concatenate([m.predict_proba(X) for m in trained], 1))
    np.testing.assert_allclose(ensemble.predict_proba(X), expected, rtol=1e-9)
