"""Product of experts with sub-sampled training, the MVAE: Wu and Goodman 2018, arXiv:1802.05335."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from fusion_engine import Features, Posterior, PosteriorNetwork, Widths
from fusion_engine_generative.posteriors.experts import GaussianExperts, products, shares
from fusion_engine_generative.priors.normal import StandardNormal


class MVAEPosterior(PosteriorNetwork):
    """Infer the product of all experts and, beside it, the product of each one alone with the prior.

        components = [p(z) prod_i q(z | x_i),  p(z) q(z | x_1), ..., p(z) q(z | x_m)]

    They stand on a leading axis k = 1 + m (1 where there is one input), so that every expert is trained alone too:
    without that, an expert is only right in company. A row holds the joint, and each input alone that it has beside
    others, in equal shares; a lone input is the joint and counts once. Each component reconstructs all that a row has.
    Axes: b batch, z latent, m inputs, k components.

    Args:
        inputs: the widths of each input.
        latent: the width of z.
    """

    subsets: Tensor

    def __init__(self, inputs: Mapping[str, Widths], *, latent: Annotated[int, Field(ge=1)] = 32) -> None:
        super().__init__(inputs, latent, StandardNormal(latent=latent))
        m = len(inputs)
        self.experts = GaussianExperts(inputs, latent)
        singles = torch.eye(m) if m > 1 else torch.empty(0, m)
        subsets = torch.cat([torch.cat([torch.ones(1, m), singles]), torch.ones(1 + len(singles), 1)], 1)
        self.register_buffer("subsets", subsets, persistent=False)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Posterior:
        """Infer; the distribution is [k b z], its first component the joint."""
        prior = self.prior(len(present)).distribution
        experts = self.experts(self.pooled(features, present), present, prior)
        several = present & (present.sum(1, keepdim=True) > 1)
        held = torch.cat([torch.ones_like(present[:, :1]), several], 1).T[: len(self.subsets)]
        components = products(self.subsets, held, experts, present, prior)
        choice = present.new_zeros(len(present), dtype=torch.long)
        weights = shares(held, components.loc)
        return Posterior.of(components, prior, weights=weights, experts=self.experts.named(experts), choice=choice)
