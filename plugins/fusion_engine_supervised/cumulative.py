"""Probabilities of ordered classes from cumulative logits."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

LEAST = 1e-6
"""Neighbouring logits count as at least so far apart: equal ones would give a class the probability 0."""


def log_probabilities(logits: Float[Tensor, "b o"]) -> Float[Tensor, "b v"]:
    """Turn the falling logits of P(y > j), j = 0 .. v-2, into log P(y = j), j = 0 .. v-1; o = v - 1.

        P(y = j) = sigmoid(l_{j-1}) - sigmoid(l_j) = sigmoid(l_{j-1}) sigmoid(-l_j) (1 - exp(l_j - l_{j-1}))

    with l_{-1} = inf and l_{v-1} = -inf. The product is exact where the difference would cancel.
    """
    above, below = logsigmoid(logits), logsigmoid(-logits)
    gaps = (logits[:, 1:] - logits[:, :-1]).clamp(max=-LEAST)
    between = above[:, :-1] + below[:, 1:] + torch.log(-torch.expm1(gaps))
    return torch.cat([below[:, :1], between, above[:, -1:]], -1)
