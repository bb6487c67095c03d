"""A meta-learner: a classifier that reads what the members answer. Axes: m members, n rows, c classes, d columns."""

from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from fusion_engine import DataError
from fusion_engine_ensembles.answers import Answers, answering, by_name


class Meta:
    """Learn labels from answers, and predict them.

    Columns: each member's probabilities by class (of two classes the second alone, as in scikit-learn's
    StackingClassifier); a missing answer is filled with the prior, and a member that abstained from some of the rows
    to learn from has a column that says where. A member that never answered has no columns.

    Args:
        final: the classifier; a logistic regression by default.
        classes: of the answers.
        prior: their frequencies.
    """

    def __init__(self, final: Any, classes: np.ndarray, prior: Float[np.ndarray, " c"]) -> None:
        self.final = LogisticRegression() if final is None else clone(final)
        self.classes, self.prior = classes, prior

    def fit(self, answers: Answers, y: np.ndarray) -> "Meta":
        """Learn from the rows that some member answers.

        Raises:
            DataError: there are none.
        """
        given = answering(answers)
        rows = given.any(0)
        if not rows.any():
            raise DataError("no member answers any row, so nothing can be learned", fix="check the rows' modalities")
        self.heard, self.gaps = given.any(1), given.any(1) & ~given[:, rows].all(1)
        self.final.fit(self.columns(answers[:, rows]), y[rows])
        return self

    def columns(self, answers: Answers) -> Float[np.ndarray, "n d"]:
        """Lay the answers out as the columns that the classifier reads."""
        given = answering(answers)
        filled = np.where(given[..., None], answers, self.prior)[self.heard]
        parts = filled[..., 1:] if len(self.classes) == 2 else filled
        return np.concatenate([*parts, (~given[self.gaps]).T.astype(np.float64)], axis=1)

    def predict_proba(self, answers: Answers) -> Float[np.ndarray, "n c"]:
        """Ask the classifier; the prior where no member answers that it knows."""
        rows = answering(answers)[self.heard].any(0)
        found = np.tile(self.prior, [answers.shape[1], 1])
        if rows.any():
            values = np.asarray(self.final.predict_proba(self.columns(answers[:, rows])), dtype=np.float64)
            found[rows] = by_name(values, self.final.classes_, self.classes)
        return found
