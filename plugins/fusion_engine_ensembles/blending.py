"""Blending: Töscher, Jahrer, Bell, "The BigChaos solution to the Netflix grand prize", 2009."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from pydantic import Field
from sklearn.model_selection import train_test_split

from fusion_engine_ensembles.answers import Answers
from fusion_engine_ensembles.base import Ensemble
from fusion_engine_ensembles.meta import Meta


class Blending(Ensemble):
    """Train the members on one part of the rows, and a classifier on what they answer about the other.

        p[n] = final([p_1[n], ..., p_m[n]])

    The members never see the part held out, which has the same frequencies of labels. Where a member abstains its
    columns hold the frequencies of the labels, and one more column says so; a row that nobody answers gets those.

    Args:
        members: see ``Ensemble``.
        final: the classifier that is trained on the answers; a logistic regression by default.
        share: of the rows that is held out.
        seed: of the split.
    """

    def __init__(
        self,
        members: Sequence[Any],
        final: Any = None,
        *,
        share: Annotated[float, Field(gt=0, lt=1)] = 0.3,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        super().__init__(members)
        self.final, self.share, self.seed = final, share, seed

    def fit(self, X: Any, y: Any) -> "Blending":
        """Split the rows, train the members on one part and the classifier on the other."""
        X, labels = self._begin(X, y)
        learned, held, y_learned, y_held = train_test_split(
            X, labels, test_size=self.share, stratify=labels, random_state=self.seed
        )
        self._train(learned, y_learned, labels)
        self.meta_ = Meta(self.final, self.classes_, self.prior_).fit(self.answers(held), y_held)
        return self

    def combine(self, answers: Answers) -> Float[np.ndarray, "n c"]:
        """Ask the classifier."""
        return self.meta_.predict_proba(answers)
