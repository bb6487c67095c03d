"""Members of an ensemble: a fused model, an estimator on one modality, recorded outputs, each as an estimator.

A member abstains from a row by a row of NaN: whatever it would need is missing there.
"""

import copy
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError

from fusion_engine import CategoryModality, DataError, FusionError, FusionModel, Head, nearest
from fusion_engine_ensembles.tables import table_of

Probabilities = Float[np.ndarray, "n c"]
"""NaN in the rows that a member abstains from."""


class Member(ClassifierMixin, BaseEstimator):
    """A ``FusionModel`` with a predicting head, as a scikit-learn classifier of rows {modality: raw sample}.

        predict_proba = the head's probabilities,  evidence = softplus(logits)

    A row that has none of the modalities that lead to the head gets NaN. The label itself is never read.

    Args:
        model: trained, or to be trained.
        head: one that predicts a category; by default the first such.
        trained: whether ``fit`` and ``clone`` leave the model as it is. False: each ``fit`` trains a copy of it on the
            rows with the labels beside.

    Raises:
        FusionError: when used: the model has no such predicting head.
    """

    def __init__(self, model: FusionModel, head: str | None = None, *, trained: bool = True) -> None:
        self.model, self.head, self.trained = model, head, trained

    def __sklearn_clone__(self) -> "Member":
        return self if self.trained else type(self)(self.model, self.head, trained=False)

    def __sklearn_is_fitted__(self) -> bool:
        return self.trained or "model_" in vars(self)

    @property
    def _fitted(self) -> FusionModel:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("this member is not trained yet: call fit")
        return self.model if self.trained else self.model_

    @property
    def _node(self) -> str:
        wiring = self.model.graph.wiring
        modalities = self.model.modalities
        heads = [
            n for n in wiring.of_kind("head") if isinstance(modalities.get(str(wiring.nodes[n].out)), CategoryModality)
        ]
        name = self.head or next(iter(heads), "")
        if name not in heads:
            raise FusionError(f"the model has no head {name!r} that predicts a category", fix=nearest(name, heads))
        return name

    @property
    def _head(self) -> Head:
        return cast(Head, self._fitted.graph[self._node])

    @property
    def label(self) -> str:
        """The modality that the head predicts."""
        return str(self.model.graph.wiring.nodes[self._node].out)

    @property
    def classes_(self) -> np.ndarray:
        """The classes, in the order of the label modality."""
        return np.asarray(cast(CategoryModality, self._fitted.modalities[self.label]).classes)

    def fit(self, X: Any, y: Any) -> "Member":
        """Train a copy of the model, where it is to be trained."""
        if not self.trained:
            labels = np.asarray(y).tolist()
            rows = [{**row, self.label: label} for row, label in zip(table_of(X), labels, strict=True)]
            graph = copy.deepcopy(self.model.graph)
            self.model_ = FusionModel(self.model.config, graph, self.model.plugins).fit(rows)
        return self

    def outputs(self, X: Any) -> Float[np.ndarray, "n o"]:
        """Return what the head puts out, NaN where the row has nothing that leads to it."""
        model, table = self._fitted, table_of(X)
        rows = [{m: raw for m, raw in row.items() if m != self.label} for row in table]
        names = dict.fromkeys(m for row in rows for m in row)
        read = model.graph.wiring.ancestors(self._node) - {self.label}
        if read.isdisjoint(names):
            return np.full([len(rows), self._head.outputs], np.nan)
        found = []
        with torch.no_grad():
            for run in model.runs([{**dict.fromkeys(names), **row} for row in rows]):
                absent = ~run.present(self._node)[:, None]
                found.append(run[self._node].double().masked_fill(absent, torch.nan).cpu())
        return torch.cat(found).numpy()

    def predict_proba(self, X: Any) -> Probabilities:
        """Return class probabilities, NaN where it abstains."""
        outputs = self.outputs(X)
        with torch.no_grad():
            given = torch.from_numpy(np.nan_to_num(outputs)).to(self._fitted.device)
            found: np.ndarray = self._head.probabilities(given).cpu().numpy()
        found[np.isnan(outputs).any(1)] = np.nan
        return found

    def evidence(self, X: Any) -> Probabilities:
        """Return the evidence for each class, at least 0, NaN where it abstains: what ``loss/evidential`` trains.

        Raises:
            FusionError: the head does not give one logit a class.
        """
        if self._head.outputs != len(self.classes_):
            raise FusionError(f"the head {self._node!r} gives no logit for each class, so it has no evidence")
        outputs = torch.from_numpy(self.outputs(X))
        return torch.logaddexp(outputs, torch.zeros_like(outputs)).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Return the likeliest class; of a row that it abstains from, the first."""
        return cast(np.ndarray, self.classes_[np.nan_to_num(self.predict_proba(X)).argmax(1)])


class Column(ClassifierMixin, BaseEstimator):
    """A scikit-learn classifier of one modality: it learns from, and answers, the rows that have it.

    Numbers and arrays are stacked as flat vectors [n d]; texts are given as a list.

    Args:
        estimator: a classifier, or a pipeline that ends in one.
        column: the modality.

    Raises:
        DataError: when fitted: no row has it.
    """

    def __init__(self, estimator: Any, column: str) -> None:
        self.estimator, self.column = estimator, column

    def _given(self, X: Any) -> tuple[np.ndarray, Any]:
        """Return which rows have the modality [n], and those samples."""
        column = [row.get(self.column) for row in table_of(X)]
        samples: Any = [raw for raw in column if raw is not None]
        if samples and not isinstance(samples[0], str):
            samples = np.stack([np.ravel(np.asarray(raw)) for raw in samples])
        return np.array([raw is not None for raw in column]), samples

    def fit(self, X: Any, y: Any) -> "Column":
        """Train the estimator on the rows that have the modality."""
        given, samples = self._given(X)
        if not given.any():
            raise DataError(f"no row has {self.column!r}, so nothing can be learned from it")
        self.estimator_ = clone(self.estimator).fit(samples, np.asarray(y)[given])
        self.classes_ = np.asarray(self.estimator_.classes_)
        return self

    def predict_proba(self, X: Any) -> Probabilities:
        """Return class probabilities, NaN where the modality is missing."""
        given, samples = self._given(X)
        found = np.full([len(given), len(self.classes_)], np.nan)
        if given.any():
            found[given] = self.estimator_.predict_proba(samples)
        return found

    def predict(self, X: Any) -> np.ndarray:
        """Return the likeliest class; of a row that it abstains from, the first."""
        return cast(np.ndarray, self.classes_[np.nan_to_num(self.predict_proba(X)).argmax(1)])


class Trained(ClassifierMixin, BaseEstimator):
    """Anything trained that has ``predict_proba`` and ``classes_``: cloning and fitting leave it as it is.

    Args:
        model: that object.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def __sklearn_clone__(self) -> "Trained":
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    @property
    def classes_(self) -> np.ndarray:
        """The classes of the model."""
        return np.asarray(self.model.classes_)

    def fit(self, X: Any, y: Any) -> "Trained":
        """Do nothing."""
        return self

    def predict_proba(self, X: Any) -> Probabilities:
        """Return what the model says."""
        return np.asarray(self.model.predict_proba(X), dtype=np.float64)

    def predict(self, X: Any) -> np.ndarray:
        """Return the likeliest class; of a row that it abstains from, the first."""
        return cast(np.ndarray, self.classes_[np.nan_to_num(self.predict_proba(X)).argmax(1)])


class Outputs(Trained):
    """Probabilities that a model gave earlier, read from a column of the rows; a gap is a row that it abstained from.

    Args:
        column: holds one vector of probabilities a row.
        classes: of those probabilities, in order.
    """

    def __init__(self, column: str, classes: Sequence[Any]) -> None:
        self.column, self.classes = column, classes

    @property
    def classes_(self) -> np.ndarray:
        """The classes, as given."""
        return np.asarray(self.classes)

    def predict_proba(self, X: Any) -> Probabilities:
        """Read them, NaN where there are none."""
        absent = np.full(len(self.classes), np.nan)
        column = [row.get(self.column) for row in table_of(X)]
        return np.stack([absent if raw is None else np.asarray(raw, dtype=np.float64) for raw in column])
