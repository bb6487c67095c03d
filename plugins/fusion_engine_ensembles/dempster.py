"""The reduced Dempster's rule for Dirichlet opinions: Han et al., ICLR 2021, arXiv:2102.02051, definition 4.

With r = b / u = e / c the rule multiplies 1 + r, whatever the number and order of the opinions:

    (b_1 b_2 + b_1 u_2 + b_2 u_1) / (u_1 u_2) = (1 + r_1) (1 + r_2) - 1

Axes: m opinions, n rows, c classes.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fusion_engine_ensembles.answers import Answers


def opinion(evidence: Answers) -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, " n"]]:
    """Combine evidence (NaN counts as none) into belief and uncertainty, which add up to one.

        b = r / (1 + sum_c r), u = 1 / (1 + sum_c r)

    Powers of e are taken relative to the largest, so that strong evidence of many cannot overflow.
    """
    logs = np.log1p(np.nan_to_num(evidence) / evidence.shape[-1]).sum(0)
    top = logs.max(1, keepdims=True)
    odds, one = np.exp(logs - top) - np.exp(-top), np.exp(-top)
    total = odds.sum(1, keepdims=True) + one
    return odds / total, (one / total)[:, 0]


def combined_evidence(evidence: Float[Tensor, "m b c"]) -> Float[Tensor, "b c"]:
    """Combine evidence, to be trained through: e = c (prod_m (1 + e_m / c) - 1); no evidence is 0."""
    c = evidence.shape[-1]
    found: Tensor = c * torch.expm1(torch.log1p(evidence / c).sum(0))
    return found
