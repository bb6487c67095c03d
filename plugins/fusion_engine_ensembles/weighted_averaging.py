"""Weighted averaging with learned weights: LeBlanc, Tibshirani, "Combining estimates in regression and classification",
JASA 91(436), 1996; the convex version of Breiman, "Stacked regressions", Machine Learning 24, 1996.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from pydantic import Field

from fusion_engine_ensembles.answers import Answers, answering, held_out, named
from fusion_engine_ensembles.base import Ensemble
from fusion_engine_ensembles.pooling import linear_pool
from fusion_engine_ensembles.tables import places
from fusion_engine_ensembles.weights import best_on_simplex, of_members


class WeightedAveraging(Ensemble):
    """Average the members' probabilities with weights on the simplex.

        p[n, c] = sum_m w_m p_m[n, c] / sum_m w_m, over the members m that answer row n
        w = argmin of -mean_n log p[n, label of n], on rows that the members did not learn from

    A member that abstains is left out and the weights of the others are scaled up to one (where all of them are zero,
    to equal ones); a row that nobody answers gets the frequencies of the labels and teaches nothing.

    Args:
        members: see ``Ensemble``.
        weights: one a member, scaled to add up to one; learned by default, and then kept in ``weights_``.
        least: the smallest weight that is learned, as the ratios of small weights count where the large ones abstain.
        cv: folds for members that are to be trained.
    """

    def __init__(
        self,
        members: Sequence[Any],
        *,
        weights: list[Annotated[float, Field(ge=0)]] | None = None,
        least: Annotated[float, Field(ge=0, lt=1)] = 1e-3,
        cv: Annotated[int, Field(ge=2)] = 5,
    ) -> None:
        super().__init__(members)
        self.weights, self.least, self.cv = weights, least, cv

    def _fits(self, m: int) -> None:
        of_members(self.weights, m)

    def _learn(self, X: Any, y: np.ndarray) -> None:
        self.weights_ = of_members(self.weights, len(self.members_))
        if self.weights is None:
            answers = held_out(named(self.members), X, y, self.classes_, self.cv)
            heard = answering(answers).any(1)  # who never answers has weight zero, and no part in the search
            self.weights_ = np.zeros(len(answers))
            if heard.any():
                chosen = answers[heard][:, np.arange(len(y)), places(y, self.classes_)]
                self.weights_[heard] = best_on_simplex(chosen, self.least)

    def combine(self, answers: Answers) -> Float[np.ndarray, "n c"]:
        """Average by weight."""
        return linear_pool(answers, self.weights_, self.prior_)
