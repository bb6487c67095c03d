"""A private latent that other modalities cannot see, of the MMVAE+: Palumbo et al., ICLR 2023."""

from collections.abc import Mapping
from typing import Annotated

import torch
from einops import rearrange
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Normal

from fusion_engine import ConfigError, Features, Posterior, PosteriorNetwork, Widths, nearest
from fusion_engine_generative.posteriors.experts import normal_of, single_shares, where
from fusion_engine_generative.priors.normal import StandardNormal


class CrossPrivatePosterior(PosteriorNetwork):
    """Infer the private latent w of one modality, component by component beside a ``moe`` posterior.

        component i = q(w | x_own)   where i is ``own``: the shared latent comes from x_own too
        component i = r(w)           elsewhere: x_own is made from another modality, and must not copy itself by w

    r = N(0, s^2), s learned, is drawn anew each time and has no KL, since it is its own prior here. The components
    stand on a leading axis k = m with the weights of ``moe``. Both posteriors are wired to the same modalities in the
    same order; then they share the axis, and a decoder of both sees component i of the one beside component i of the
    other. A row that lacks ``own`` has the prior N(0, I) in all components, as generation does; what stands for
    another missing input weighs nothing; a row with nothing present has the prior.
    Wiring of an MMVAE+ of two modalities::

        post:   {use: posterior/moe,           in: [enc_a, enc_b]}
        priv_a: {use: posterior/cross_private, in: [enc_a, enc_b], with: {own: enc_a, latent: 8}}
        priv_b: {use: posterior/cross_private, in: [enc_a, enc_b], with: {own: enc_b, latent: 8}}
        dec_a:  {use: ..., in: {z: [post, priv_a]}, out: a}
        dec_b:  {use: ..., in: {z: [post, priv_b]}, out: b}

    with ``loss/iwae`` or ``loss/dreg`` and ``samples: 1`` for the paper's objective (more for its tighter bound), or
    ``loss/reconstruction`` and ``loss/kl``, whose KL of the shared latent is the looser one of single experts.
    Axes: b batch, z latent, m inputs, k components.

    Args:
        inputs: the widths of each input; only that of ``own`` is read, of the others only whether they are present.
        own: the input that w belongs to.
        latent: the width of w.

    Raises:
        ConfigError: ``own`` is no input.
    """

    own_component: Tensor

    def __init__(self, inputs: Mapping[str, Widths], *, own: str, latent: Annotated[int, Field(ge=1)] = 32) -> None:
        super().__init__(inputs, latent, StandardNormal(latent=latent))
        if own not in inputs:
            raise ConfigError(f"{own!r} is no input of this posterior", where="'own'", fix=nearest(own, inputs))
        self.place = list(inputs).index(own)
        self.linear = nn.Linear(inputs[own].pooled, 2 * latent)
        self.auxiliary = nn.Parameter(torch.zeros(latent))
        own_component = rearrange(torch.arange(len(inputs)) == self.place, "k -> k 1")
        self.register_buffer("own_component", own_component, persistent=False)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Posterior:
        """Infer; the distribution and the prior are [k b z]."""
        prior = self.prior(len(present)).distribution
        here = present[:, self.place]
        raw = self.linear(self.pooled(features, present)[self.place])
        inferred = where(here, normal_of(raw.to(prior.loc.dtype)), prior)
        drawn = where(here, self._auxiliary(prior), prior)
        components = where(self.own_component, inferred, drawn)
        priors = where(self.own_component, prior, drawn)
        return Posterior.of(components, priors, weights=single_shares(present, components.loc))

    def _auxiliary(self, prior: Normal) -> Normal:
        raw = rearrange(torch.cat([torch.zeros_like(self.auxiliary), self.auxiliary]), "d -> 1 d")
        r = normal_of(raw.to(prior.loc.dtype))
        return Normal(r.loc.expand_as(prior.loc), r.scale.expand_as(prior.loc), validate_args=False)
