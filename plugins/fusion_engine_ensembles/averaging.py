"""Averaging, which is soft voting: Kittler, Hatef, Duin, Matas, "On combining classifiers", IEEE TPAMI 20(3), 1998."""

import numpy as np
from jaxtyping import Float

from fusion_engine_ensembles.answers import Answers
from fusion_engine_ensembles.base import Ensemble
from fusion_engine_ensembles.pooling import linear_pool


class Averaging(Ensemble):
    """Average the members' probabilities; its argmax is soft voting, so both names mean this class.

        p[n, c] = mean over the members m that answer row n of p_m[n, c]

    A member that abstains is left out of the mean; a row that nobody answers gets the frequencies of the labels.
    """

    def combine(self, answers: Answers) -> Float[np.ndarray, "n c"]:
        """Average."""
        return linear_pool(answers, np.ones(len(answers)), self.prior_)
