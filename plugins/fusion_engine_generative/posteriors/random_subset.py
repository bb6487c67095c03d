"""Product of experts over all inputs and over a random subset of them: Wu and Goodman 2018, section 2.2.

arXiv:1802.05335; PoE-GAN infers from random subsets in the same way (Huang et al. 2022, arXiv:2112.05130).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor
from torch.distributions import Normal

from fusion_engine import Features, Noise, Posterior, PosteriorNetwork, Widths, thin
from fusion_engine_generative.posteriors.experts import GaussianExperts, product
from fusion_engine_generative.priors.normal import StandardNormal


class RandomSubsetPosterior(PosteriorNetwork):
    """Infer the product of all experts and, when z is drawn, that of a random subset of what each row has.

        components = [p(z) prod_i q(z | x_i),  p(z) prod_(i in s) q(z | x_i)],  each i in s with probability 1/2

    A subset that came out empty keeps one input. Two components, weighed ``joint`` and 1 - ``joint``, train every
    expert alone and in company at the cost of two decodings, however many inputs there are; over many steps this is the
    average over all subsets. With ``joint: 0`` the random subset is all there is, at the cost of one decoding: one
    draw a row of the average that ``mopoe`` takes, which serves translation from few inputs better and reconstruction
    from all of them less. Without a draw the second component counts nothing.
    Axes: b batch, z latent, m inputs, k = 2 components.

    Args:
        inputs: the widths of each input.
        latent: the width of z.
        joint: the share of the product of all experts while z is drawn.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        latent: Annotated[int, Field(ge=1)] = 32,
        joint: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    ) -> None:
        super().__init__(inputs, latent, StandardNormal(latent=latent))
        self.experts = GaussianExperts(inputs, latent)
        self.joint = joint

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Posterior:
        """Infer; the distribution is [2 b z], its first component the joint; [b z] once drawn with ``joint: 0``."""
        prior = self.prior(len(present)).distribution
        experts = self.experts(self.pooled(features, present), present, prior)
        joint = product(experts, present, prior)
        named = self.experts.named(experts)
        choice = present.new_zeros(len(present), dtype=torch.long)

        def pair(subset: Normal, share: float) -> Posterior:
            both = Normal(
                torch.stack([joint.loc, subset.loc]), torch.stack([joint.scale, subset.scale]), validate_args=False
            )
            weights = both.loc.new_tensor([1 - share, share])[:, None].expand(2, len(present))
            return Posterior.of(both, prior, weights=weights, experts=named, choice=choice)

        def redraw(noise: Noise) -> Posterior:
            subset = product(experts, thin(present, 0.5, noise), prior)
            if self.joint == 0:
                return Posterior.of(subset, prior, experts=named)
            return pair(subset, 1 - self.joint)

        return replace(pair(joint, 0.0), redraw=redraw)
