"""A joint network beside one network an input, the JMVAE: Suzuki et al. 2016, arXiv:1611.01891."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Normal

from fusion_engine import Features, Posterior, PosteriorNetwork, Widths
from fusion_engine_generative.posteriors.experts import GaussianExperts, normal_of, products, where
from fusion_engine_generative.priors.normal import StandardNormal


class JMVAEPosterior(PosteriorNetwork):
    """Infer by a joint network where a row has everything, else by the product of the experts of what it has.

        q(z | x) = joint([x_1, ..., x_m])                    where nothing is missing
        q(z | x) = prod over present i of q(z | x_i), normalised   elsewhere

    The joint is one Linear from the concatenated vectors. The experts q(z | x_i) are trained towards it by
    ``loss/jmvae_kl``; each approximates a posterior and holds the prior already, so that a lone input has its expert as
    it is, which is the paper's translation, and the prior is no further factor. A missing input is left out of the
    product; a row with nothing present has the prior.
    Axes: b batch, z latent, m inputs.

    Args:
        inputs: the widths of each input.
        latent: the width of z.
    """

    min_inputs = 2
    everything: Tensor

    def __init__(self, inputs: Mapping[str, Widths], *, latent: Annotated[int, Field(ge=1)] = 32) -> None:
        super().__init__(inputs, latent, StandardNormal(latent=latent))
        self.experts = GaussianExperts(inputs, latent)
        self.joint = nn.Linear(sum(w.pooled for w in inputs.values()), 2 * latent)
        everything = torch.tensor([[1.0] * len(inputs) + [0.0]])
        self.register_buffer("everything", everything, persistent=False)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Posterior:
        """Infer; the distribution is [b z]."""
        prior = self.prior(len(present)).distribution
        vectors = self.pooled(features, present)
        experts = self.experts(vectors, present, prior)
        joint = normal_of(self.joint(torch.cat(vectors, -1)).to(prior.loc.dtype))
        part = products(self.everything, present.any(1)[None], experts, present, prior)
        chosen = where(present.all(1), joint, Normal(part.loc[0], part.scale[0], validate_args=False))
        return Posterior.of(chosen, prior, experts=self.experts.named(experts))
