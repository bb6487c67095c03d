"""Mixture of products of experts, the MoPoE-VAE: Sutter et al. 2021, arXiv:2105.02470."""

from collections.abc import Mapping
from typing import Annotated

import torch
from einops import rearrange
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from fusion_engine import Features, Posterior, PosteriorNetwork, Widths
from fusion_engine_generative.posteriors.experts import GaussianExperts, products, shares
from fusion_engine_generative.priors.normal import StandardNormal


class MoPoEPosterior(PosteriorNetwork):
    """Infer a mixture, in equal shares, over the non-empty subsets of what each row has; each a product of experts.

        q(z | x) = mean over subsets s of prod_(i in s) q(z | x_i), normalised

    The subsets stand on a leading axis k = 2^m, number s holding the inputs whose bits are set in s. The empty one is
    the prior and counts only for a row with nothing present. Unlike in ``poe``, the prior is no expert.
    Axes: b batch, z latent, m inputs, k subsets.

    Args:
        inputs: the widths of each input.
        latent: the width of z.
    """

    max_inputs = 10
    bits: Tensor
    numbers: Tensor
    subsets: Tensor

    def __init__(self, inputs: Mapping[str, Widths], *, latent: Annotated[int, Field(ge=1)] = 32) -> None:
        super().__init__(inputs, latent, StandardNormal(latent=latent))
        self.experts = GaussianExperts(inputs, latent)
        bits = 2 ** torch.arange(len(inputs))
        numbers = torch.arange(2 ** len(inputs))
        member = (rearrange(numbers, "s -> s 1") & bits) > 0
        subsets = torch.cat([member, ~member.any(1, keepdim=True)], 1).float()
        self.register_buffer("bits", bits, persistent=False)
        self.register_buffer("numbers", numbers, persistent=False)
        self.register_buffer("subsets", subsets, persistent=False)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Posterior:
        """Infer; the distribution is [k b z]."""
        prior = self.prior(len(present)).distribution
        experts = self.experts(self.pooled(features, present), present, prior)
        choice = (present * self.bits).sum(1)
        held = self._held(choice)
        components = products(self.subsets, held, experts, present, prior)
        weights = shares(held, components.loc)
        return Posterior.of(components, prior, weights=weights, experts=self.experts.named(experts), choice=choice)

    def _held(self, choice: Int[Tensor, " b"]) -> Bool[Tensor, "s b"]:
        """Say which subsets hold nothing that a row lacks; the empty one only where the row has nothing."""
        numbers = rearrange(self.numbers, "s -> s 1")
        return ((numbers & ~choice) == 0) & ((numbers > 0) == (choice > 0))
