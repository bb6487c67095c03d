"""Pools of probabilities that leave out whoever abstains. Axes: m members, n rows, c classes."""

import numpy as np
from einops import einsum
from jaxtyping import Float

from fusion_engine_ensembles.answers import Answers, answering


def shares(answers: Answers, weights: Float[np.ndarray, " m"]) -> Float[np.ndarray, "m n"]:
    """Give each member its share of a row: its weight over that of all who answer; zero where nobody does.

    Where all who answer weigh nothing they share equally, the limit of adding a vanishing amount to each weight.
    """
    given = answering(answers)
    heavy = given * weights[:, None]
    heavy = np.where(heavy.sum(0) > 0, heavy, given)
    total = heavy.sum(0)
    found: np.ndarray = heavy / np.where(total > 0, total, 1.0)
    return found


def linear_pool(
    answers: Answers, weights: Float[np.ndarray, " m"], prior: Float[np.ndarray, " c"]
) -> Float[np.ndarray, "n c"]:
    """Average probabilities: sum_m share_m p_m; the prior where nobody answers (Stone, 1961)."""
    mixed = einsum(shares(answers, weights), np.nan_to_num(answers), "m n, m n c -> n c")
    found: np.ndarray = np.where(answering(answers).any(0, keepdims=True).T, mixed, prior)
    return found


def log_pool(
    answers: Answers, weights: Float[np.ndarray, " m"], prior: Float[np.ndarray, " c"], floor: float
) -> Float[np.ndarray, "n c"]:
    """Average logarithms: p = softmax(sum_m share_m log max(p_m, floor)); the prior where nobody answers."""
    logs = np.log(np.maximum(np.nan_to_num(answers), floor))
    mixed = einsum(shares(answers, weights), logs, "m n, m n c -> n c")
    powers = np.exp(mixed - mixed.max(1, keepdims=True))
    pooled = powers / powers.sum(1, keepdims=True)
    found: np.ndarray = np.where(answering(answers).any(0, keepdims=True).T, pooled, prior)
    return found


def votes(answers: Answers) -> Answers:
    """Turn probabilities into one vote a member and row, for its likeliest class, the first of equals."""
    one: np.ndarray = np.eye(answers.shape[-1])[np.nan_to_num(answers).argmax(-1)]
    one[~answering(answers)] = np.nan
    return one


def log_loss(probabilities: Float[np.ndarray, "n c"], truth: list[int]) -> float:
    """Return the mean of -log p[truth]; probabilities below 1e-15 count as that."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(truth)), truth], 1e-15)).mean())
