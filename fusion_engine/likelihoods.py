"""Distributions over signals: what decoders return.

Axes: b batch, n tokens, k samples.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from fusion_engine.errors import FusionError
from fusion_engine.noise import Noise
from fusion_engine.values import Signal


class Likelihood(ABC):
    """p(x given z) over one modality's signal; leading sample axes *k pass through.

    Where a mask exists the batch shape is [*k b n]: padding must never be summed.
    """

    @abstractmethod
    def log_prob(self, signal: Signal) -> Float[Tensor, "*k b"]:
        """Log density of the signal, over its valid slots, summed over the sample's own axes."""

    @abstractmethod
    def sample(self, noise: Noise) -> Signal:
        """Draw a signal; data [*k b ...]."""

    @property
    @abstractmethod
    def mean(self) -> Signal:
        """The expected signal (the most likely one for discrete data); differentiable where data is continuous."""


class DistributionLikelihood(Likelihood):
    """A likelihood over unmasked data from one torch distribution of batch shape [*k b ...]."""

    def __init__(self, distribution: Distribution, sample_axes: int = 0) -> None:
        self.distribution = distribution
        self.sample_axes = sample_axes

    def log_prob(self, signal: Signal) -> Tensor:
        """Log density [*k b], summed over every axis behind the batch."""
        log_prob = self.distribution.log_prob(signal.data)
        return log_prob.flatten(self.sample_axes + 1).sum(-1) if log_prob.ndim > self.sample_axes + 1 else log_prob

    def sample(self, noise: Noise) -> Signal:
        """Draw by the inverse CDF; Categorical and Bernoulli by comparing with their (cumulated) probabilities."""
        d = self.distribution
        lead = d.batch_shape[: self.sample_axes]
        own = d.batch_shape[self.sample_axes + 1 :]
        if isinstance(d, torch.distributions.Categorical):
            cumulated = d.probs.float().cumsum(-1)
            u = noise.uniform(*own, lead=lead, like=cumulated)
            return Signal((cumulated <= u[..., None] * cumulated[..., -1:]).sum(-1))
        if isinstance(d, torch.distributions.Bernoulli):
            return Signal((noise.uniform(*own, lead=lead, like=d.probs) < d.probs).to(d.probs.dtype))
        if isinstance(d, torch.distributions.Normal):
            return Signal(d.loc + d.scale * noise.normal(*own, lead=lead, like=d.loc))
        return Signal(d.icdf(noise.uniform(*own, lead=lead, like=d.mean).clamp(1e-6, 1 - 1e-6)))

    @property
    def mean(self) -> Signal:
        """The mean, or the mode of a categorical."""
        discrete = isinstance(self.distribution, torch.distributions.Categorical)
        return Signal(self.distribution.mode if discrete else self.distribution.mean)


class Samples(Likelihood):
    """What a generator without a density returns: samples only."""

    def __init__(self, signal: Signal) -> None:
        self.signal = signal

    def log_prob(self, signal: Signal) -> Tensor:
        """Refuse: there is no density.

        Raises:
            FusionError: always.
        """
        raise FusionError(
            "this generator has no density, so nothing can be reconstructed with it", fix="use an adversarial loss"
        )

    def sample(self, noise: Noise) -> Signal:
        """Return the sample that the latent stands for."""
        return self.signal

    @property
    def mean(self) -> Signal:
        """The sample itself."""
        return self.signal
