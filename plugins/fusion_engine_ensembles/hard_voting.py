"""Hard voting: Lam, Suen, "Application of majority voting to pattern recognition", IEEE TSMC A 27(5), 1997."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from pydantic import Field

from fusion_engine_ensembles.answers import Answers
from fusion_engine_ensembles.base import Ensemble
from fusion_engine_ensembles.pooling import linear_pool, votes
from fusion_engine_ensembles.weights import of_members


class HardVoting(Ensemble):
    """Let each member vote for its likeliest class.

        p[n, c] = sum_m w_m [argmax_k p_m[n, k] = c] / sum_m w_m, over the members m that answer row n

    The most voted class is predicted, the first of equals. A member that abstains has no vote; a row that nobody
    answers gets the frequencies of the labels.

    Args:
        members: see ``Ensemble``.
        weights: of the votes, one a member; equal by default.
    """

    def __init__(self, members: Sequence[Any], *, weights: list[Annotated[float, Field(ge=0)]] | None = None) -> None:
        super().__init__(members)
        self.weights = weights

    def _fits(self, m: int) -> None:
        of_members(self.weights, m)

    def combine(self, answers: Answers) -> Float[np.ndarray, "n c"]:
        """Count votes."""
        return linear_pool(votes(answers), of_members(self.weights, len(answers)), self.prior_)
