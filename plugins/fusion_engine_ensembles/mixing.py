"""How much of each generator: the mixture whose samples cover most of the data.

Coverage: Naeem et al., ICML 2020, arXiv:2002.09797. B(x) is the ball around a real x that reaches to its k-th nearest
real neighbour, and h[m, i] the share of member m's samples in B(x_i). Of n samples of the mixture with weights w, of
which n w_m are member m's, B(x_i) holds none with probability prod_m (1 - h[m, i])^(n w_m), so that

    coverage(w) = mean_i [ 1 - exp(-n sum_m w_m c[m, i]) ],    c = -log(1 - h)

is concave in w: its best point on the simplex is found from anywhere.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

Weights = Float[np.ndarray, " m"]
Rates = Float[np.ndarray, "m i"]


def rates(real: Float[np.ndarray, "i d"], fakes: Sequence[Float[np.ndarray, "_ d"]], k: int) -> Rates:
    """Return c[m, i], finite: where all s samples of a member are in a ball, h counts as 1 - 1 / 2s."""
    reach = NearestNeighbors(n_neighbors=k + 1).fit(real).kneighbors(real)[0][:, -1]
    held = [(cdist(fake, real) <= reach).mean(0).clip(max=1 - 1 / (2 * len(fake))) for fake in fakes]
    found: np.ndarray = -np.log1p(-np.stack(held))
    return found


def expected_coverage(c: Rates, weights: Weights, n: int) -> float:
    """Return the expected coverage of n samples of the mixture."""
    return float(-np.expm1(-n * weights @ c).mean())


def best_weights(c: Rates, n: int) -> Weights:
    """Maximise the expected coverage over the simplex, by sequential quadratic programming from equal weights."""
    m = len(c)

    def loss(w: Weights) -> tuple[float, Weights]:
        empty = np.exp(-n * w @ c)
        return float(empty.mean()), -n * (c * empty).mean(1)

    even = np.full(m, 1 / m)
    whole = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(m)}
    options = {"ftol": 1e-12, "maxiter": 1000}
    found = minimize(loss, even, jac=True, method="SLSQP", bounds=[(0, 1)] * m, constraints=whole, options=options).x
    chosen = found.clip(0) / found.clip(0).sum()
    corners = [even, chosen, *np.eye(m)]
    return max(corners, key=lambda w: expected_coverage(c, w, n))


def counts(weights: Weights, n: int, rng: np.random.Generator) -> np.ndarray:
    """Share n samples out, within one of n w_m each and n w_m on average: systematic sampling."""
    edges = np.floor(np.append(0.0, np.cumsum(weights) / np.sum(weights)) * n + rng.random())
    edges[-1] = edges[0] + n
    found: np.ndarray = np.diff(edges).astype(int)
    return found
