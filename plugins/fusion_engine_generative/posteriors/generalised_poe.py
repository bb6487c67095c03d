"""Generalised product of experts: Cao and Fleet 2014, arXiv:1410.7827.

As the posterior of a multi-view auto-encoder, with a learned power per input and latent element: Lawry Aguila et al.
2023, Journal of Open Source Software 8(85), 5093.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Features, Posterior, PosteriorNetwork, Widths
from fusion_engine_generative.posteriors.experts import GaussianExperts, weighted_product, with_prior
from fusion_engine_generative.priors.normal import StandardNormal


class GeneralisedPoEPosterior(PosteriorNetwork):
    """Infer q(z | x) as the normalised product of powers of the experts and of the prior, over what each row has.

        q(z | x) = p(z)^a_0 prod_i q(z | x_i)^a_i / normaliser,  a = softmax over {0 (the prior)} and the present i

    The powers are learned for each input and latent element, and start equal. They sum to one, so that experts that
    agree do not add up to a precision that none of them has, as they do in ``poe``.
    A missing input is left out of product and softmax; a row with nothing present has the prior.
    Axes: b batch, z latent, m inputs, e experts (the inputs and, last, the prior).

    Args:
        inputs: the widths of each input.
        latent: the width of z.
    """

    def __init__(self, inputs: Mapping[str, Widths], *, latent: Annotated[int, Field(ge=1)] = 32) -> None:
        super().__init__(inputs, latent, StandardNormal(latent=latent))
        self.experts = GaussianExperts(inputs, latent)
        self.powers = nn.Parameter(torch.zeros(len(inputs) + 1, latent))

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Posterior:
        """Infer; the distribution is [b z]."""
        prior = self.prior(len(present)).distribution
        experts = self.experts(self.pooled(features, present), present, prior)
        product = weighted_product(with_prior(experts, prior), self._exponents(present))
        return Posterior.of(product, prior, experts=self.experts.named(experts))

    def _exponents(self, present: Bool[Tensor, "b m"]) -> Float[Tensor, "e b z"]:
        held = torch.cat([present, torch.ones_like(present[:, :1])], 1)
        powers = rearrange(self.powers, "e z -> e 1 z").masked_fill(~rearrange(held, "b e -> e b 1"), -torch.inf)
        return powers.softmax(0)
