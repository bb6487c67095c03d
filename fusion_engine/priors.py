"""A posterior under another prior than its own: what a prior node that trains does to the posterior it is ``of``.

Axes: b batch, z latent, k samples.
"""

from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from fusion_engine.errors import FusionError
from fusion_engine.noise import Noise
from fusion_engine.values import Posterior, Rows


def log_density(distribution: Distribution, z: Float[Tensor, "*k b z"]) -> Float[Tensor, "*k b"]:
    """Return log p(z), summed over the latent axis where p is factorised."""
    found: Tensor = distribution.log_prob(z)
    return found.sum(-1) if found.ndim == z.ndim else found


class PriorByRow(Distribution):
    """p(z) of one prior where ``rows`` is True and of another elsewhere: batch shape [b], event shape [z].

    Args:
        rows: where which holds.
        prior: p(z) where it does.
        otherwise: p(z) elsewhere.
        latent: the width of z.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}

    def __init__(self, rows: Rows, prior: Distribution, otherwise: Distribution, latent: int) -> None:
        self.rows, self.prior, self.otherwise = rows, prior, otherwise
        super().__init__(rows.shape, torch.Size([latent]), validate_args=False)

    def log_prob(self, value: Float[Tensor, "*k b z"]) -> Float[Tensor, "*k b"]:
        """Return the density of each row under its prior."""
        return torch.where(self.rows, log_density(self.prior, value), log_density(self.otherwise, value))


def under(posterior: Posterior, prior: Posterior, rows: Rows) -> Posterior:
    """Put a posterior under another prior.

    A row in which nothing is present has the prior, and no KL to it: z comes from the new one, while q and p keep the
    posterior's own, so that log q - log p is zero whatever z is.

    Args:
        posterior: as its network returns it, not sampled.
        prior: for the same rows.
        rows: those in which anything is present.

    Raises:
        FusionError: the posterior's components have priors of their own, which one prior cannot replace.
    """
    if len(posterior.prior.batch_shape) > 2:
        raise FusionError(
            "no prior can train with this posterior: its components have priors of their own",
            fix="remove the prior, or use another posterior",
        )
    redraw = posterior.redraw
    again = None if redraw is None else lambda noise: under(redraw(noise), prior, rows)
    if rows.all():
        return replace(posterior, prior=prior.distribution, redraw=again)
    place, own = rows[:, None], replace(posterior, redraw=None)

    def sampler(noise: Noise) -> Tensor:
        return torch.where(place, own.sampled(noise).z, prior.sampled(noise.at("prior")).z)

    mixed = PriorByRow(rows, prior.distribution, posterior.prior, prior.z.shape[-1])
    z = torch.where(place, posterior.z, prior.z)
    return replace(posterior, prior=mixed, z=z, sampler=sampler, redraw=again)
