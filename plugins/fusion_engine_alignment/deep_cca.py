"""Deep canonical correlation analysis: Andrew et al., ICML 2013, PMLR 28(3):1247-1255."""

from typing import Annotated

import torch
from einops import repeat
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusion_engine import ConfigError, Graph
from fusion_engine_alignment.alignment import Alignment


class DeepCCALoss(Alignment):
    """Minus the total correlation between the vectors of two nodes, over the rows of a micro-batch that have both.

        S_xy = (X - mean)' (Y - mean) / (r - 1),  S_xx and S_yy alike, plus regularisation * I
        term = -sum of the first ``top`` singular values of S_xx^-1/2 S_xy S_yy^-1/2, each at most 1

    Every row of a pair has that value, so that a step is the mean over its micro-batches, by rows; more nodes: the sum
    over pairs. In double precision. A row that lacks one of a pair is left out of its means and covariances. A pair
    with fewer rows than ``minimum`` does not count: up to the sum of both widths, some correlations are 1 by chance.
    The vectors are correlated, not near: whiten them, or put a linear CCA behind, before comparing one with another.
    Axes: r rows that have both.

    Args:
        nodes: two or more (globs): encoders, fusions, posteriors or heads, of any widths.
        top: how many correlations; all of them by default.
        regularisation: added to the variances; the vectors' own should be much larger.
        minimum: rows that a pair needs; by default one more than the sum of its widths.
        weight: of the term.

    Raises:
        BuildError: fewer than two nodes. ConfigError: training has micro-batches of fewer rows than a pair needs.
    """

    averaged = False

    def __init__(
        self,
        graph: Graph,
        *,
        nodes: Annotated[list[str], Field(min_length=1)],
        top: Annotated[int, Field(ge=1)] | None = None,
        regularisation: Annotated[float, Field(gt=0)] = 1e-4,
        minimum: Annotated[int, Field(ge=2)] | None = None,
        weight: Annotated[float, Field(ge=0)] = 1.0,
    ) -> None:
        super().__init__(graph, nodes, weight)
        self.top, self.regularisation, self.minimum = top, regularisation, minimum

    def least(self, a: str, b: str) -> int:
        """What ``minimum`` says, or enough rows for correlations that mean something."""
        return self.minimum or self.widths[a] + self.widths[b] + 1

    def check_rows(self, rows: int) -> None:
        """Refuse micro-batches on which some pair would never count."""
        a, b = max(self.pairs, key=lambda pair: self.least(*pair))
        least = self.least(a, b)
        if rows < least:
            by_width = f", one more than the widths of {a!r} ({self.widths[a]}) and {b!r} ({self.widths[b]}) together"
            raise ConfigError(
                "a batch has too few rows for the widths of the nodes: the correlations would mean nothing",
                where="'minimum'" if self.minimum else "'nodes'",
                expected=f"{least} rows or more in a micro-batch" + ("" if self.minimum else by_width),
                actual=f"{rows} rows",
                fix="lower 'minimum'" if self.minimum else "make the nodes' width smaller",
            )

    def compare(self, x: Float[Tensor, "r d"], y: Float[Tensor, "r e"]) -> Float[Tensor, " r"]:
        """Return minus the total correlation, the same for every row."""
        total = canonical_correlations(x, y, self.regularisation)[: self.top].sum()
        return repeat(-total, "-> r", r=len(x))


def canonical_correlations(
    x: Float[Tensor, "r d"], y: Float[Tensor, "r e"], regularisation: float = 0.0
) -> Float[Tensor, " k"]:
    """Return the k = min(d, e) canonical correlations, largest first, in double precision; differentiable.

    They are the singular values of L_x^-1 S_xy L_y^-T with S_xx = L_x L_x': those of S_xx^-1/2 S_xy S_yy^-1/2, as L and
    S^1/2 differ by a rotation, and the gradient stays finite where variances are equal.

    Raises:
        LinAlgError: without regularisation, a covariance is singular.
    """
    x, y = (v.double() - v.double().mean(0) for v in (x, y))
    left, right = _factor(x, regularisation), _factor(y, regularisation)
    half = torch.linalg.solve_triangular(left, x.T @ y / (len(x) - 1), upper=False)
    whitened = torch.linalg.solve_triangular(right, half.T, upper=False)
    correlations: Tensor = torch.linalg.svdvals(whitened)
    return correlations


def _factor(x: Float[Tensor, "r d"], regularisation: float) -> Float[Tensor, "d d"]:
    eye = torch.eye(x.shape[1], device=x.device, dtype=x.dtype)
    factor: Tensor = torch.linalg.cholesky(x.T @ x / (len(x) - 1) + regularisation * eye)
    return factor
