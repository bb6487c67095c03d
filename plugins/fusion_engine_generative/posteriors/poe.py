"""Product of experts: Wu and Goodman 2018, arXiv:1802.05335."""

from collections.abc import Mapping
from typing import Annotated

from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from fusion_engine import Features, Posterior, PosteriorNetwork, Widths
from fusion_engine_generative.posteriors.experts import GaussianExperts, product
from fusion_engine_generative.priors.normal import StandardNormal


class PoEPosterior(PosteriorNetwork):
    """Infer q(z | x) as the normalised product p(z) prod_i q(z | x_i), over what each row has.

        precision = 1 + sum_i 1 / scale_i^2,  loc = sum_i loc_i / scale_i^2 / precision

    The prior is an expert, and all there is for a row with nothing present.
    Axes: b batch, z latent, m inputs.

    Args:
        inputs: the widths of each input.
        latent: the width of z.
    """

    def __init__(self, inputs: Mapping[str, Widths], *, latent: Annotated[int, Field(ge=1)] = 32) -> None:
        super().__init__(inputs, latent, StandardNormal(latent=latent))
        self.experts = GaussianExperts(inputs, latent)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Posterior:
        """Infer; the distribution is [b z]."""
        prior = self.prior(len(present)).distribution
        experts = self.experts(self.pooled(features, present), present, prior)
        return Posterior.of(product(experts, present, prior), prior, experts=self.experts.named(experts))
