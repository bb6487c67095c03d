"""The standard normal prior."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.distributions import Normal

from fusion_engine import Posterior, Prior


class StandardNormal(Prior):
    """N(0, I): the prior of posteriors, and as a node a GAN's noise.

    Axes: b batch, z latent.

    Args:
        latent: the width of z.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, *, latent: Annotated[int, Field(ge=1)] = 32) -> None:
        super().__init__(latent)
        self.register_buffer("loc", torch.zeros(latent), persistent=False)
        self.register_buffer("scale", torch.ones(latent), persistent=False)

    def normal(self, b: int) -> Normal:
        """Return the distribution alone, batch shape [b z]."""
        return Normal(self.loc.expand(b, -1), self.scale.expand(b, -1), validate_args=False)

    def forward(self, b: int) -> Posterior:
        """Return the prior for b rows."""
        distribution = self.normal(b)
        return Posterior.of(distribution, distribution)
