"""What members answer: probabilities by class name, members in order, rows that they did not learn from.

Axes: m members, n rows, c classes. A member abstains from a row by NaN.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import cross_val_predict

from fusion_engine import ConfigError, FusionModel
from fusion_engine_ensembles.members import Member, Trained
from fusion_engine_ensembles.tables import places

Answers = Float[np.ndarray, "m n c"]


def pairs(members: Sequence[Any]) -> list[tuple[str, Any]]:
    """Name the members that have no name yet: ``member0``, ``member1`` ..."""
    return [m if isinstance(m, tuple) else (f"member{i}", m) for i, m in enumerate(members)]


def named(members: Sequence[Any]) -> dict[str, Any]:
    """Return every member as an estimator, by name.

    Raises:
        ConfigError: there are none, two have one name, a name has two underscores in a row, or one is no classifier.
    """
    found = pairs(members)
    names = [name for name, _ in found]
    if not names or len(set(names)) < len(names) or any("__" in name for name in names):
        raise ConfigError(
            "an ensemble needs members with names of their own",
            expected="at least one, each name once and without '__'",
            actual=", ".join(names) or "none",
        )
    return {name: _estimator(name, member) for name, member in found}


def _estimator(name: str, member: Any) -> Any:
    if isinstance(member, FusionModel):
        return Member(member)
    if not callable(getattr(member, "predict_proba", None)):
        raise ConfigError(
            "a member cannot say how likely each class is",
            where=f"member {name!r}",
            expected="a FusionModel, or an object with predict_proba",
            actual=type(member).__name__,
        )
    return member if callable(getattr(member, "get_params", None)) else Trained(member)


def by_name(values: Float[np.ndarray, "n o"], own: Any, classes: np.ndarray) -> Float[np.ndarray, "n c"]:
    """Put a member's columns in the order of the classes: zero for those that it does not know, NaN rows stay NaN."""
    silent = np.isnan(values).any(1)
    found = np.zeros([len(values), len(classes)])
    where = np.asarray(places(own, classes), dtype=int)
    found[:, where[where >= 0]] = values[:, where >= 0]
    found[silent] = np.nan
    return found


def answer(member: Any, X: Any, classes: np.ndarray) -> Float[np.ndarray, "n c"]:
    """Ask one fitted member."""
    return by_name(np.asarray(member.predict_proba(X), dtype=np.float64), member.classes_, classes)


def answering(answers: Answers) -> Bool[np.ndarray, "m n"]:
    """Who answers which row."""
    found: np.ndarray = ~np.isnan(answers).any(-1)
    return found


class _Labelled(ClassifierMixin, BaseEstimator):
    """A member for ``cross_val_predict``, which numbers the classes: the member learns labels, and is read by name."""

    def __init__(self, member: Any, classes: Any) -> None:
        self.member, self.classes = member, classes

    def fit(self, X: Any, y: Any) -> "_Labelled":
        """Fit a clone."""
        self.member_ = clone(self.member).fit(X, self.classes[y])
        self.classes_ = np.arange(len(self.classes))
        return self

    def predict_proba(self, X: Any) -> Float[np.ndarray, "n c"]:
        """Ask it."""
        return answer(self.member_, X, self.classes)

    def predict(self, X: Any) -> Int[np.ndarray, " n"]:
        """Return the number of the likeliest class."""
        found: np.ndarray = np.nan_to_num(self.predict_proba(X)).argmax(1)
        return found


def held_out(members: Mapping[str, Any], X: Any, y: np.ndarray, classes: np.ndarray, cv: int) -> Answers:
    """Ask each member about rows that it did not learn from.

    A trained member (one that is its own clone) never learned from them; others are trained on all folds but one and
    asked about that one (Stone, 1974), by scikit-learn's ``cross_val_predict``.
    """
    known, found = np.unique(y), []
    for member in members.values():
        if clone(member, safe=False) is member:
            found.append(answer(member, X, classes))
        else:
            values = cross_val_predict(_Labelled(member, known), X, y, cv=cv, method="predict_proba")
            found.append(by_name(values, known, classes))
    return np.stack(found)
