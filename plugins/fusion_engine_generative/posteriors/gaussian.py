"""A plain Gaussian posterior: Kingma and Welling 2014, arXiv:1312.6114."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Features, Posterior, PosteriorNetwork, Widths
from fusion_engine_generative.posteriors.experts import normal_of, where
from fusion_engine_generative.priors.normal import StandardNormal


class GaussianPosterior(PosteriorNetwork):
    """Infer one Normal by one Linear from the concatenated pooled vectors, zero where absent.

    For the private latent of one modality, or behind a fusion. A row with nothing present has the prior.
    Axes: b batch, z latent, m inputs.

    Args:
        inputs: the widths of each input.
        latent: the width of z.
    """

    def __init__(self, inputs: Mapping[str, Widths], *, latent: Annotated[int, Field(ge=1)] = 32) -> None:
        super().__init__(inputs, latent, StandardNormal(latent=latent))
        self.linear = nn.Linear(sum(w.pooled for w in inputs.values()), 2 * latent)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Posterior:
        """Infer; the distribution is [b z]."""
        prior = self.prior(len(present)).distribution
        raw = self.linear(torch.cat(self.pooled(features, present), -1))
        return Posterior.of(where(present.any(1), normal_of(raw.to(prior.loc.dtype)), prior), prior)
