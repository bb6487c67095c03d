"""A mixture of normals times what one row says of z: another mixture, of which no covariance is kept.

Axes: b batch, z latent, c components, r rows.
"""

import math
from typing import ClassVar

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from fusion_engine import Noise

ROWS = 32
"""How many rows' matrices [c z z] are held at once while they are factored."""


class InformedMixture(Distribution):
    """p(z) of each row proportional to mixture(z) exp(moment z - precision z^2 / 2): batch shape [b], event shape [z].

        precision_bc = precision_c + diag(precision_b),   loc_bc = precision_bc^-1 (precision_c mean_c + moment_b)

    Shares and means of the components are computed at once, in double precision; the matrix of a component when a draw
    needs it.

    Args:
        weights: of the mixture's components, none of them zero.
        means: of its components.
        factors: Cholesky factors of their covariances.
        precision: what a row says, at least 0.
        moment: precision times the location.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}

    def __init__(
        self,
        weights: Float[Tensor, " c"],
        means: Float[Tensor, "c z"],
        factors: Float[Tensor, "c z z"],
        precision: Float[Tensor, "b z"],
        moment: Float[Tensor, "b z"],
    ) -> None:
        self.dtype = means.dtype
        means, factors = means.double(), factors.double()
        self.precision, self.moment = precision.double(), moment.double()
        self.inverse = torch.cholesky_inverse(factors)
        self.pull = einsum(self.inverse, means, "c i j, c j -> c i")
        volume = factors.diagonal(dim1=-1, dim2=-2).log().sum(-1)
        self.constant = weights.double().log() - volume - (means * self.pull).sum(-1) / 2
        found = [self._components(slice(i, i + ROWS)) for i in range(0, len(moment), ROWS)]
        self.logits, self.loc = (torch.cat(parts) for parts in zip(*found, strict=True))
        super().__init__(moment.shape[:1], moment.shape[1:], validate_args=False)

    def _components(self, rows: slice) -> tuple[Float[Tensor, "r c"], Float[Tensor, "r c z"]]:
        factor = torch.linalg.cholesky(self.inverse + torch.diag_embed(self.precision[rows])[:, None])
        total = self.pull + self.moment[rows][:, None]
        loc = torch.cholesky_solve(total[..., None], factor)[..., 0]
        volume = factor.diagonal(dim1=-1, dim2=-2).log().sum(-1)
        return self.constant - volume + (total * loc).sum(-1) / 2, loc

    @property
    def mean(self) -> Float[Tensor, "b z"]:
        """The mean of each row's mixture."""
        return einsum(self.logits.softmax(-1), self.loc, "b c, b c z -> b z").to(self.dtype)

    def log_prob(self, value: Float[Tensor, "*k b z"]) -> Float[Tensor, "*k b"]:
        """Return the density, normalised."""
        z = value.double()
        square = einsum(z, self.inverse, z, "... i, c i j, ... j -> ... c")
        own = self.constant + einsum(z, self.pull, "... i, c i -> ... c") - square / 2
        known = (self.moment * z - self.precision * z.square() / 2).sum(-1)
        norm = self.logits.logsumexp(-1) + z.shape[-1] * math.log(2 * math.pi) / 2
        return (own.logsumexp(-1) + known - norm).to(self.dtype)

    def draw(self, noise: Noise) -> Float[Tensor, "b z"]:
        """Draw a component of each row by its share, and a point from it."""
        cumulated = self.logits.softmax(-1).cumsum(-1)
        u = noise.at("component").uniform(1, like=cumulated)
        index = (cumulated <= u * cumulated[:, -1:]).sum(-1)
        factor = torch.linalg.cholesky(self.inverse[index] + torch.diag_embed(self.precision))
        eps = noise.at("point").normal(self.moment.shape[-1], like=self.moment)
        off = torch.linalg.solve_triangular(factor.mT, eps[..., None], upper=True)[..., 0]
        z: Tensor = self.loc[torch.arange(len(index), device=index.device), index] + off
        return z.to(self.dtype)
