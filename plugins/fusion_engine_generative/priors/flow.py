"""A normalising flow as prior, trained with its posterior: Chen et al., ICLR 2017, arXiv:1611.02731.

The paper's flow is autoregressive; this one is made of affine couplings (Dinh et al. 2017, arXiv:1605.08803), which are
as fast to draw from as to evaluate.
"""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Noise, Posterior, Prior
from fusion_engine_generative.priors.coupling import Couplings, Flow, initial, masks


class FlowPrior(Prior):
    """p(z) = N(u; 0, I) |det du/dz|,  z = f(u), f a chain of affine couplings; it starts as N(0, I).

    With ``of: post`` its parameters learn by that posterior's loss: the KL is estimated at z. Without, it is a GAN's
    noise that learns. A row with nothing present draws z from it. z of the prior itself is f(0): the mean of a flow has
    no closed form. A coupling needs two numbers or more.
    Axes: b batch, z latent, l layers, h hidden.

    Args:
        latent: the width of z.
        layers: l, couplings; twice the bits of ``latent`` are one round of every pair.
        width: h, of each coupling's two hidden layers.
    """

    trains = True
    keep: Tensor
    loc: Tensor

    def __init__(
        self,
        *,
        latent: Annotated[int, Field(ge=2)] = 32,
        layers: Annotated[int, Field(ge=2)] = 10,
        width: Annotated[int, Field(ge=1)] = 64,
    ) -> None:
        super().__init__(latent)
        self.register_buffer("keep", masks(latent, layers), persistent=False)
        self.register_buffer("loc", torch.zeros(latent), persistent=False)
        self.weights = nn.ParameterDict({n: nn.Parameter(x) for n, x in initial(latent, layers, width).items()})

    def flow(self, b: int) -> Flow:
        """Return the distribution alone, batch shape [b], event shape [z]."""
        return Flow(b, Couplings(self.keep, **dict(self.weights.items())), self.loc)

    def forward(self, b: int) -> Posterior:
        """Return the prior for b rows."""
        flow = self.flow(b)

        def sample(noise: Noise) -> Float[Tensor, "b z"]:
            return flow.at(noise.normal(self.latent, like=self.loc))

        middle = flow.at(self.loc.expand(b, -1))
        return Posterior(flow, flow, middle, self.loc.new_ones(b), sampler=sample)
