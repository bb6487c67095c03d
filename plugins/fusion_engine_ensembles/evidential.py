"""Trusted multi-view classification: Han, Zhang, Fu, Zhou, ICLR 2021, arXiv:2102.02051."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from pydantic import Field
from sklearn.utils.validation import check_is_fitted

from fusion_engine_ensembles.answers import Answers, by_name
from fusion_engine_ensembles.base import Ensemble
from fusion_engine_ensembles.dempster import opinion
from fusion_engine_ensembles.tables import indexable


class Evidential(Ensemble):
    """Combine the members' Dirichlet opinions by the reduced Dempster's rule.

        e_m = softplus(logits_m), S_m = sum_c (e_m[c] + 1), b_m = e_m / S_m, u_m = c / S_m
        b = (b_1 b_2 + b_1 u_2 + b_2 u_1) / (1 - C), u = u_1 u_2 / (1 - C), C = sum over c != d of b_1[c] b_2[d]
        p = b + u / c

    Members are models whose heads ``loss/evidential`` has trained (``Member``, or any with a method ``evidence``); of
    others, probabilities p count as ``strength`` observations distributed so: e = strength p. A member that abstains
    has the vacuous opinion (e = 0), which changes nothing; a row that nobody answers gets equal probabilities, u = 1.

    Args:
        members: see ``Ensemble``.
        strength: how many observations the probabilities of a member without evidence are worth.
    """

    def __init__(self, members: Sequence[Any], *, strength: Annotated[float, Field(gt=0)] = 10.0) -> None:
        super().__init__(members)
        self.strength = strength

    def answers(self, X: Any) -> Answers:
        """Ask every member for its evidence: [m n c] by ``classes_``, NaN where it abstains."""
        check_is_fitted(self)
        X = indexable(X)
        return np.stack([by_name(self._evidence(m, X), m.classes_, self.classes_) for m in self.members_.values()])

    def _evidence(self, member: Any, X: Any) -> Float[np.ndarray, "n o"]:
        evidence = getattr(member, "evidence", None)
        found = evidence(X) if callable(evidence) else self.strength * np.asarray(member.predict_proba(X), np.float64)
        return np.asarray(found, dtype=np.float64)

    def combine(self, answers: Answers) -> Float[np.ndarray, "n c"]:
        """Combine evidence [m n c] into the expected probabilities."""
        belief, uncertainty = opinion(answers)
        found: np.ndarray = belief + uncertainty[:, None] / belief.shape[1]
        return found

    def uncertainty(self, X: Any) -> Float[np.ndarray, " n"]:
        """Return u of each row, the mass that is on no class: from nearly 0 to 1, where nobody answers."""
        return opinion(self.answers(X))[1]
