"""Greedy ensemble selection: Caruana, Niculescu-Mizil, Crew, Ksikes, "Ensemble selection from libraries of models",
ICML 2004.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from fusion_engine_ensembles.answers import Answers, answering, held_out, named
from fusion_engine_ensembles.base import Ensemble
from fusion_engine_ensembles.pooling import linear_pool, log_loss
from fusion_engine_ensembles.tables import places

Positive = Annotated[int, Field(ge=1)]


class GreedySelection(Ensemble):
    """Average a multiset of members, grown by whichever helps most on rows that the members did not learn from.

        counts = the `start` best members, once each
        repeat: counts[m] += 1 for the m that makes the mean of the chosen best
        keep the best of all counts on the way; bags: the mean of counts / sum(counts) over random sets of members
        p[n, c] = sum_m counts_m p_m[n, c] / sum_m counts_m, over the members m that answer row n

    A member that abstains is left out (where no chosen one answers, the others are averaged equally), during selection
    as afterwards; a row that nobody answers gets the frequencies of the labels.

    Args:
        members: see ``Ensemble``.
        rounds: how many members are chosen in all, repetitions included.
        start: how many of the best members to begin with.
        metric: what is best: the lowest log loss, or the highest accuracy; the earlier member of equals.
        bags: random sets of members to choose from; 1 takes all members.
        share: of the members that a bag holds, where there are several bags.
        cv: folds for members that are to be trained.
        seed: of the bags.
    """

    def __init__(
        self,
        members: Sequence[Any],
        *,
        rounds: Positive = 25,
        start: Positive = 1,
        metric: Literal["log_loss", "accuracy"] = "log_loss",
        bags: Positive = 1,
        share: Annotated[float, Field(gt=0, le=1)] = 0.5,
        cv: Annotated[int, Field(ge=2)] = 5,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        super().__init__(members)
        self.rounds, self.start, self.metric = rounds, start, metric
        self.bags, self.share, self.cv, self.seed = bags, share, cv, seed

    def _learn(self, X: Any, y: np.ndarray) -> None:
        answers = held_out(named(self.members), X, y, self.classes_, self.cv)
        heard, truth = answering(answers).any(1).nonzero()[0], places(y, self.classes_)
        self.weights_ = np.zeros(len(answers))
        random = np.random.default_rng(self.seed)
        for _ in range(self.bags if len(heard) else 0):
            size = max(1, round(self.share * len(heard)))
            bag = heard if self.bags == 1 else np.sort(random.choice(heard, size, replace=False))
            counts = self._climb(answers[bag], truth)
            self.weights_[bag] += counts / counts.sum() / self.bags

    def _climb(self, answers: Answers, truth: list[int]) -> Float[np.ndarray, " m"]:
        """Choose from the given members; return how often each one is chosen."""
        each = np.eye(len(answers))
        alone = np.array([self._cost(answers, one, truth) for one in each])
        counts = each[np.argsort(alone, kind="stable")[: self.start]].sum(0)
        best: np.ndarray = counts
        least = self._cost(answers, counts, truth)
        while counts.sum() < self.rounds:
            costs = [self._cost(answers, counts + one, truth) for one in each]
            counts = counts + each[int(np.argmin(costs))]
            if min(costs) < least:
                best, least = counts, min(costs)
        return best

    def _cost(self, answers: Answers, counts: Float[np.ndarray, " m"], truth: list[int]) -> float:
        pooled = linear_pool(answers, counts, self.prior_)
        if self.metric == "log_loss":
            return log_loss(pooled, truth)
        return float((pooled.argmax(1) != truth).mean())

    def combine(self, answers: Answers) -> Float[np.ndarray, "n c"]:
        """Average the chosen ones."""
        return linear_pool(answers, self.weights_, self.prior_)
