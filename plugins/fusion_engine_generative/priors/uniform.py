"""The uniform noise of the first GANs: Goodfellow et al., NeurIPS 2014, arXiv:1406.2661."""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.distributions import Uniform

from fusion_engine import Posterior, Prior


class UniformNoise(Prior):
    """U(-sqrt 3, sqrt 3) in each latent number, independently: zero mean and unit deviation, as N(0, I) has.

    A GAN's noise alone, as a node without inputs: no KL to it is finite for a posterior that leaves the cube. Where the
    data are flat too (modes of equal weight on a grid), the map from noise to data has no tails to squeeze.
    Axes: b batch, z latent.

    Args:
        latent: the width of z.
    """

    bound: Tensor

    def __init__(self, *, latent: Annotated[int, Field(ge=1)] = 32) -> None:
        super().__init__(latent)
        self.register_buffer("bound", torch.full([latent], math.sqrt(3)), persistent=False)

    def forward(self, b: int) -> Posterior:
        """Return the prior for b rows."""
        bound = self.bound.expand(b, -1)
        distribution = Uniform(-bound, bound, validate_args=False)
        return Posterior.of(distribution, distribution)
