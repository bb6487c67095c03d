"""The abstract ensemble: members, classes by name, and one rule to combine what the members answer.

Axes: m members, n rows, c classes.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.validation import check_is_fitted

from fusion_engine import validate_config
from fusion_engine_ensembles.answers import Answers, answer, named, pairs
from fusion_engine_ensembles.tables import checked, indexable, places, plain, union


class Ensemble(ClassifierMixin, BaseEstimator, ABC):
    """Several classifiers as one, with scikit-learn's conventions.

    Members that are trained stay as they are: a ``FusionModel``, ``Member``, ``Trained``, or scikit-learn's
    ``FrozenEstimator``; then ``fit`` learns from held-out rows what is to be learned about combining them. All others
    are cloned and trained by ``fit``. Classes are matched by name; a class that a member does not know gets nothing
    from it. Rows are an array, a data frame, columns or rows of modalities, a ``Table``.

    Args:
        members: (name, model) pairs as in scikit-learn's VotingClassifier, or models alone.

    After ``fit``: ``members_`` by name, ``classes_`` (of the labels and of the members, sorted), ``prior_`` (the
    frequencies of the labels; what a row gets that no member can answer).
    """

    def __init__(self, members: Sequence[Any]) -> None:
        self.members = members

    @abstractmethod
    def combine(self, answers: Answers) -> Float[np.ndarray, "n c"]:
        """Combine probabilities [m n c], NaN where a member abstains, into probabilities that add up to one."""

    def fit(self, X: Any, y: Any) -> "Ensemble":
        """Train the members that are to be trained, then learn how to combine.

        Raises:
            ConfigError: the members are none, or a parameter has a wrong type, is out of range or does not fit them.
            DataError, ValueError: the rows or labels do not fit.
        """
        X, labels = self._begin(X, y)
        self._train(X, labels, labels)
        self._learn(X, labels)
        return self

    def _begin(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        """Check parameters, then rows and labels: before anything is trained, and never in the constructor."""
        keywords = inspect.signature(type(self)).parameters.values()
        given = {p.name: plain(getattr(self, p.name)) for p in keywords if p.kind is p.KEYWORD_ONLY}
        validate_config(type(self), given, f"ensemble {type(self).__name__}")
        self._fits(len(named(self.members)))
        return checked(X, y)

    def _fits(self, m: int) -> None:
        """Check the parameters against the number of members; by default there is nothing to check."""

    def _train(self, X: Any, y: np.ndarray, labels: np.ndarray) -> None:
        """Fit clones of the members to (X, y), and note classes and prior of all labels."""
        self.members_ = {name: clone(m, safe=False).fit(X, y) for name, m in named(self.members).items()}
        self.classes_ = union([np.unique(labels), *(m.classes_ for m in self.members_.values())])
        counts = np.bincount(places(labels, self.classes_), minlength=len(self.classes_))
        self.prior_ = counts / counts.sum()
        first = next(iter(self.members_.values()))
        for name in ("n_features_in_", "feature_names_in_"):
            if getattr(first, name, None) is not None:
                setattr(self, name, getattr(first, name))

    def _learn(self, X: Any, y: np.ndarray) -> None:
        """Learn how to combine; by default there is nothing to learn."""

    def answers(self, X: Any) -> Answers:
        """Ask every member: [m n c] by ``classes_``, NaN where it abstains."""
        check_is_fitted(self)
        X = indexable(X)
        return np.stack([answer(m, X, self.classes_) for m in self.members_.values()])

    def predict_proba(self, X: Any) -> Float[np.ndarray, "n c"]:
        """Return class probabilities, in the order of ``classes_``."""
        return self.combine(self.answers(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the likeliest class of each row, the first of equals."""
        probabilities = self.predict_proba(X)
        return cast(np.ndarray, self.classes_[probabilities.argmax(1)])

    def _named_members(self) -> list[tuple[str, Any]]:
        """Return the members that have a name; none while ``members`` is no list."""
        return [m for m in self.members if isinstance(m, tuple)] if isinstance(self.members, list | tuple) else []

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; deep ones are named ``member`` and ``member__parameter``."""
        found: dict[str, Any] = super().get_params(deep)
        for name, member in self._named_members() if deep else ():
            inner = member.get_params() if callable(getattr(member, "get_params", None)) else {}
            found |= {name: member, **{f"{name}__{key}": value for key, value in inner.items()}}
        return found

    def set_params(self, **params: Any) -> "Ensemble":
        """Set parameters, members and parameters of members by the names that ``get_params`` gives."""
        self.members = params.pop("members", self.members)
        replaced = {name: params.pop(name) for name, _ in self._named_members() if name in params}
        if replaced:
            self.members = [(name, replaced.get(name, member)) for name, member in pairs(self.members)]
        super().set_params(**params)
        return self
