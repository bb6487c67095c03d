"""Mixture of experts, the MMVAE: Shi et al. 2019, arXiv:1911.03393."""

from collections.abc import Mapping
from typing import Annotated

from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from fusion_engine import Features, Posterior, PosteriorNetwork, Widths
from fusion_engine_generative.posteriors.experts import GaussianExperts, single_shares
from fusion_engine_generative.priors.normal import StandardNormal


class MoEPosterior(PosteriorNetwork):
    """Infer a mixture, in equal shares, of one expert for each input that a row has.

        q(z | x) = mean over present i of q(z | x_i)

    The experts stand on a leading axis k = m, in the order of the inputs. That of a missing input is the prior and
    weighs nothing; in a row with nothing present all are the prior, and weigh the same. No component uses all that a
    row has: without noise, ``one`` keeps the first input present.
    The paper trains it by ``loss/iwae`` or ``loss/dreg``; with ``loss/reconstruction`` and ``loss/kl`` the bound is
    looser, as the KL of a mixture is at most the mean of the KLs.
    Axes: b batch, z latent, m inputs, k components.

    Args:
        inputs: the widths of each input.
        latent: the width of z.
    """

    def __init__(self, inputs: Mapping[str, Widths], *, latent: Annotated[int, Field(ge=1)] = 32) -> None:
        super().__init__(inputs, latent, StandardNormal(latent=latent))
        self.experts = GaussianExperts(inputs, latent)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Posterior:
        """Infer; the distribution is [k b z]."""
        prior = self.prior(len(present)).distribution
        experts = self.experts(self.pooled(features, present), present, prior)
        weights = single_shares(present, experts.loc)
        return Posterior.of(experts, prior, weights=weights, experts=self.experts.named(experts))
