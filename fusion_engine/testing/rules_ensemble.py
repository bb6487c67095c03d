"""Rules of ensembles that combine classifiers, on members that read one number of a row and abstain without it."""

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from fusion_engine.testing.observe import expect, finite, same
from fusion_engine.testing.rules_build import check_no_global_random
from fusion_engine.testing.subject import Subject

CLASSES = ("blue", "green", "red")
GENERATES = "it has no predict_proba, so it combines no classifiers"
Rows = list[dict[str, float | None]]


class ToyMember(ClassifierMixin, BaseEstimator):
    """Give each class a probability that falls with the distance to its mean; NaN where the number is missing.

    Args:
        column: which number it reads.
        backwards: name the classes in reverse order.
    """

    def __init__(self, column: str, backwards: bool = False) -> None:
        self.column, self.backwards = column, backwards

    def _numbers(self, rows: Any) -> np.ndarray:
        column = [row.get(self.column) for row in rows]
        return np.array([np.nan if raw is None else raw for raw in column], dtype=float)

    def fit(self, rows: Any, labels: Any) -> "ToyMember":
        """Learn the mean of each class; 0 where the number is missing everywhere."""
        x, y = self._numbers(rows), np.asarray(labels)
        self.classes_ = np.unique(y)[::-1] if self.backwards else np.unique(y)
        kept = ~np.isnan(x)
        self.means_ = np.array([x[kept & (y == c)].sum() / max(1, (kept & (y == c)).sum()) for c in self.classes_])
        return self

    def predict_proba(self, rows: Any) -> np.ndarray:
        """Return softmax(-(x - mean)^2)."""
        powers = np.exp(-((self._numbers(rows)[:, None] - self.means_) ** 2))
        found: np.ndarray = powers / powers.sum(1, keepdims=True)
        return found

    def predict(self, rows: Any) -> np.ndarray:
        """Return the likeliest class."""
        found: np.ndarray = self.classes_[np.nan_to_num(self.predict_proba(rows)).argmax(1)]
        return found


def members(*columns: str, backwards: bool = False) -> list[tuple[str, ToyMember]]:
    """Name one member a column."""
    return [(f"reads_{c}", ToyMember(c, backwards)) for c in columns]


def data(seed: int) -> tuple[Rows, list[str]]:
    """Draw 60 rows of numbers that tell the class more or less well; a quarter of a and b is missing."""
    random = np.random.default_rng(seed)
    labels = np.tile(np.arange(3), 20)
    numbers = {name: labels * scale + random.normal(size=60) for name, scale in (("a", 2.0), ("b", 1.0), ("c", 0.2))}
    missing = {"a": random.random(60) < 0.25, "b": random.random(60) < 0.25, "c": np.zeros(60, dtype=bool)}
    rows = [{n: None if missing[n][i] else float(x[i]) for n, x in numbers.items()} for i in range(60)]
    return rows, [CLASSES[i] for i in labels]


def _fitted(subject: Subject, *columns: str, backwards: bool = False) -> Any:
    ensemble = subject.construct(members(*(columns or "abc"), backwards=backwards))
    return ensemble.fit(*data(0))


def _probabilities(ensemble: Any, rows: Rows) -> dict[str, torch.Tensor]:
    return {"the probabilities": torch.as_tensor(np.array(ensemble.predict_proba(rows), dtype=np.float64))}


def _generates(subject: Subject) -> bool:
    return not callable(getattr(subject.target, "predict_proba", None))


def constructs(subject: Subject) -> str | None:
    """It takes (name, estimator) pairs and its config, keeps both as they are, and scikit-learn can clone it."""
    if _generates(subject):
        return GENERATES
    given = members(*"abc")
    ensemble = subject.construct(given)
    kept = ensemble.get_params(deep=False)
    expect(any(value is given for value in kept.values()), "it does not keep its members", "set them in __init__")
    again = clone(ensemble).get_params(deep=False)
    changed = [key for key in subject.config if again[key] != kept[key]]
    expect(not changed, f"a clone has another config: {', '.join(changed)}", "set each key under its own name")
    return None


def probabilities(subject: Subject) -> str | None:
    """``predict_proba`` gives rows that add up to one, in the order of ``classes_``; ``predict`` the likeliest."""
    if _generates(subject):
        return GENERATES
    ensemble, (rows, _) = _fitted(subject), data(1)
    found = np.asarray(ensemble.predict_proba(rows))
    expect(list(ensemble.classes_) == list(CLASSES), f"classes_ is {list(ensemble.classes_)}, not {list(CLASSES)}")
    expect(found.shape == (60, 3), f"predict_proba gives {list(found.shape)} instead of [60, 3]")
    finite({"a probability": torch.as_tensor(found)}, "on rows with gaps")
    good = (found >= 0).all() and np.allclose(found.sum(1), 1.0)
    expect(bool(good), "the probabilities are negative or do not add up to one")
    likeliest = ensemble.classes_[found.argmax(1)]
    expect(list(ensemble.predict(rows)) == list(likeliest), "predict does not give the likeliest class")
    return None


def repeatable(subject: Subject) -> str | None:
    """Fitted twice to the same rows it is the same, and it neither reads nor moves the global random states."""
    if _generates(subject):
        return GENERATES
    ensemble, (rows, _) = subject.construct(members(*"abc")), data(1)
    check_no_global_random(lambda: _probabilities(clone(ensemble).fit(*data(0)), rows))
    return None


def row_independence(subject: Subject) -> str | None:
    """What it says about a row does not depend on the rows beside it, and one row alone keeps its axis."""
    if _generates(subject):
        return GENERATES
    ensemble, (rows, _) = _fitted(subject), data(1)
    whole = _probabilities(ensemble, rows)
    for i in range(6):
        alone = _probabilities(ensemble, rows[i : i + 1])
        same(alone, {n: x[i : i + 1] for n, x in whole.items()}, f"row {i} alone differs from row {i} among others")
    return None


def abstention(subject: Subject) -> str | None:
    """A member that abstains from every row changes nothing, whether in learning or in use."""
    if _generates(subject):
        return GENERATES
    rows, _ = data(1)
    expected = _probabilities(_fitted(subject), rows)
    found = _probabilities(_fitted(subject, "a", "b", "c", "nowhere"), rows)
    same(found, expected, "a member that never answers leaves a trace", "leave out rows of NaN, and renormalise")
    return None


def nothing_present(subject: Subject) -> str | None:
    """A row that no member can answer gets finite probabilities that add up to one."""
    if _generates(subject):
        return GENERATES
    found = _probabilities(_fitted(subject), [{"a": None, "b": None, "c": None}, {}])
    finite(found, "where no member answers", "give the frequencies of the labels")
    good = all(torch.allclose(x.sum(1), torch.ones(2, dtype=x.dtype)) for x in found.values())
    expect(good, "where no member answers, the probabilities do not add up to one")
    return None


def classes_by_name(subject: Subject) -> str | None:
    """Members that list the classes in another order say the same."""
    if _generates(subject):
        return GENERATES
    rows, _ = data(1)
    found, expected = (_probabilities(_fitted(subject, backwards=b), rows) for b in (True, False))
    same(found, expected, "it depends on the order in which members list the classes", "match them by `classes_`")
    return None
