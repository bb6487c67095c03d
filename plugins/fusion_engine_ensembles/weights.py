"""Weights of members: as given, or those on the simplex that predict best. Axes: m members, n rows."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from fusion_engine import ConfigError

Weights = Float[np.ndarray, " m"]


def of_members(weights: Sequence[float] | Weights | None, m: int) -> Weights:
    """Return one weight a member, equal ones where none are given; they add up to one.

    Raises:
        ConfigError: there is not one a member, one is negative, or all are zero.
    """
    found = np.ones(m) if weights is None else np.asarray(weights, dtype=np.float64)
    if found.shape != (m,) or not (found >= 0).all() or not found.sum() > 0:
        raise ConfigError(
            "the weights do not fit the members",
            where="'weights'",
            expected=f"{m} weights, none negative, one above zero",
            actual=str(weights),
        )
    scaled: Weights = found / found.sum()
    return scaled


def best_on_simplex(chosen: Float[np.ndarray, "m n"], least: float) -> Weights:
    """Minimise the log loss of a weighted mean over w >= least, sum(w) = 1, by sequential least squares (Kraft, 1988).

        loss(w) = mean_n [log sum_m w_m a_mn - log sum_m w_m a_mn p_mn]

    Args:
        chosen: p_mn, the probability that member m gives to the label of row n; NaN (a_mn = 0) where it abstains.
        least: the smallest weight. Where the best members abstain only the ratio of the other weights counts, however
            small they are: without a bound there may be no minimum.
    """
    given = ~np.isnan(chosen)
    chosen, answered = np.nan_to_num(chosen)[:, given.any(0)], given[:, given.any(0)].astype(np.float64)
    m, low = len(chosen), min(least, 1 / len(chosen))

    def loss(w: Weights) -> tuple[float, Weights]:
        top, bottom = np.maximum(w @ chosen, 1e-15), np.maximum(w @ answered, 1e-15)
        gradient = (answered / bottom - chosen / top).mean(1)
        return float((np.log(bottom) - np.log(top)).mean()), gradient

    sums = {"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": lambda w: np.ones(m)}
    start = np.full(m, 1.0 / m)
    options = {"maxiter": 1000, "ftol": 1e-12}
    found = minimize(loss, start, jac=True, method="SLSQP", bounds=[(low, 1)] * m, constraints=[sums], options=options)
    weights = np.clip(found.x, low, None)
    best: Weights = weights / weights.sum()
    return best if loss(best)[0] <= loss(start)[0] else start
