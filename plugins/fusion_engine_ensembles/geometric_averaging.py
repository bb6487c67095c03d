"""The logarithmic opinion pool, a normalised product of experts: Genest, Zidek, Statistical Science 1(1), 1986;
Hinton, "Training products of experts by minimizing contrastive divergence", Neural Computation 14(8), 2002.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from pydantic import Field

from fusion_engine_ensembles.answers import Answers
from fusion_engine_ensembles.base import Ensemble
from fusion_engine_ensembles.pooling import log_pool


class GeometricAveraging(Ensemble):
    """Take the geometric mean of the members' probabilities: one that is sure that it is not so has a veto.

        p[n, c] proportional to prod_m max(p_m[n, c], floor) ** (1 / number of members m that answer row n)

    A member that abstains is left out of the product; a row that nobody answers gets the frequencies of the labels.

    Args:
        members: see ``Ensemble``.
        floor: the smallest probability that counts, so that no single veto is final.
    """

    def __init__(self, members: Sequence[Any], *, floor: Annotated[float, Field(gt=0, lt=1)] = 1e-6) -> None:
        super().__init__(members)
        self.floor = floor

    def combine(self, answers: Answers) -> Float[np.ndarray, "n c"]:
        """Multiply."""
        return log_pool(answers, np.ones(len(answers)), self.prior_, self.floor)
