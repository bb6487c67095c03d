"""Stacking: Wolpert, "Stacked generalization", Neural Networks 5(2), 1992; with probabilities: Ting, Witten, JAIR 10,
1999.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from pydantic import Field

from fusion_engine_ensembles.answers import Answers, held_out, named
from fusion_engine_ensembles.base import Ensemble
from fusion_engine_ensembles.meta import Meta


class Stacking(Ensemble):
    """Train a classifier on what the members answer about rows that they did not learn from.

        p[n] = final([p_1[n], ..., p_m[n]])

    Members that are to be trained answer out of fold, then learn from all rows; trained ones answer all rows. With
    nothing missing it is scikit-learn's StackingClassifier. Where a member abstains its columns hold the frequencies of
    the labels, and one more column says so; a row that nobody answers gets those frequencies.

    Args:
        members: see ``Ensemble``.
        final: the classifier that is trained on the answers; a logistic regression by default.
        cv: folds.
    """

    def __init__(self, members: Sequence[Any], final: Any = None, *, cv: Annotated[int, Field(ge=2)] = 5) -> None:
        super().__init__(members)
        self.final, self.cv = final, cv

    def _learn(self, X: Any, y: np.ndarray) -> None:
        answers = held_out(named(self.members), X, y, self.classes_, self.cv)
        self.meta_ = Meta(self.final, self.classes_, self.prior_).fit(answers, y)

    def combine(self, answers: Answers) -> Float[np.ndarray, "n c"]:
        """Ask the classifier."""
        return self.meta_.predict_proba(answers)
