"""A mixture of normals fitted to a trained posterior's latents: Ghosh et al. 2020, arXiv:1903.12436."""

from typing import Annotated

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from fusion_engine import FusionError, Noise, Posterior, Prior
from fusion_engine_generative.priors.informed import InformedMixture

REGULARISATION = 1e-4
"""Added to the variances, so that no component collapses onto one sample."""


class MixturePrior(Prior):
    """p(z) = sum_c weights[c] N(z; means[c], L[c] L[c]^T), fitted after training with full covariances.

    A model trained with the prior N(0, I) fills only part of it; what is drawn from that part decodes better. With
    ``infer`` what a row lacks is filled in from that part too: in use, though never in training,

        q(z | x) becomes q(z | x) p_fit(z) / p(z), normalised,

    with p = N(0, I) the prior that q was trained with. Where x says little, q / p is flat and z is what is likely
    beside what x does say, instead of the mean of all that could be. It is a mixture again, for q / p is Gaussian.
    Until ``fit`` the buffer ``fitted`` is False, every component is N(0, I), and so is the mixture. The shapes of the
    buffers follow from the config, whatever the fit found: components that are not used have weight zero.
    Axes: b batch, z latent, c components.

    Args:
        latent: the width of z.
        components: the most that are fitted.
        draws: of the posteriors a row, that it is fitted to: more of them hold more components.
        infer: whether translation, reconstruction and imputation use it too; the posteriors must be normal.
        candidates: points drawn from a row's component, of which generation keeps the one that its decodings, encoded
            again, make most likely. Components keep their weights; within one, what is easily encoded is preferred.
    """

    fits = True
    weights: Tensor
    means: Tensor
    factors: Tensor
    fitted: Tensor

    def __init__(
        self,
        *,
        latent: Annotated[int, Field(ge=1)] = 32,
        components: Annotated[int, Field(ge=1)] = 32,
        draws: Annotated[int, Field(ge=1)] = 1,
        infer: bool = False,
        candidates: Annotated[int, Field(ge=1)] = 1,
    ) -> None:
        super().__init__(latent)
        self.draws, self.infers, self.candidates = draws, infer, candidates
        self.register_buffer("weights", torch.full([components], 1 / components))
        self.register_buffer("means", torch.zeros(components, latent))
        self.register_buffer("factors", torch.eye(latent).repeat(components, 1, 1))
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, b: int) -> Posterior:
        """Return the prior for b rows: batch shape [b], event shape [z], z its mean."""
        components = MultivariateNormal(self.means, scale_tril=self.factors, validate_args=False)
        weights = Categorical(logits=self.weights.log(), validate_args=False)
        mixture = MixtureSameFamily(weights, components, validate_args=False).expand(torch.Size([b]))  # type: ignore[no-untyped-call]
        return Posterior(mixture, mixture, mixture.mean, self.weights.new_ones(b), sampler=self.sample)

    def sample(self, noise: Noise) -> Float[Tensor, "b z"]:
        """Draw a component by weight and a point from it."""
        return self.proposals(noise, 1)[0]

    def proposals(self, noise: Noise, k: int) -> Float[Tensor, "k b z"]:
        """Draw a component of each row by weight and k points from it; the first is that of ``sample``."""
        cumulated = self.weights.cumsum(-1)
        u = noise.at("component").uniform(1, like=cumulated)
        index = (cumulated <= u * cumulated[-1]).sum(-1)
        keys = [noise.at("point"), *(noise.at("point", i) for i in range(1, k))]
        eps = torch.stack([key.normal(self.latent, like=self.means) for key in keys])
        return self.means[index] + einsum(self.factors[index], eps, "b i j, k b j -> k b i")

    def infer(self, posterior: Posterior) -> Posterior:
        """Put what is inferred [b z] under this prior; its z is the mean. Until ``fit`` nothing changes.

        Raises:
            FusionError: the posterior or the prior that it was trained with is not normal.
        """
        if not (self.infers and self.fitted):
            return posterior
        q, p = posterior.distribution, posterior.prior
        if not (isinstance(q, Normal) and isinstance(p, Normal) and q.loc.shape[-1] == self.latent):
            raise FusionError(
                "a mixture cannot infer with this posterior",
                expected="a Normal under a Normal prior",
                actual=f"{type(q).__name__} under {type(p).__name__}",
                fix="leave 'infer' out of the prior's config",
            )
        precision = (q.scale.double().pow(-2) - p.scale.double().pow(-2)).clamp(min=0)
        moment = q.loc.double() * q.scale.double().pow(-2) - p.loc.double() * p.scale.double().pow(-2)
        moment, used = moment.masked_fill(precision == 0, 0.0), self.weights > 0
        found = InformedMixture(self.weights[used], self.means[used], self.factors[used], precision, moment)
        own = self(len(moment)).distribution
        return Posterior(found, own, found.mean, posterior.weights, sampler=found.draw)

    @torch.no_grad()
    def fit(self, latents: Float[Tensor, "b z"]) -> None:
        """Fit by expectation maximisation, the same for the same latents.

        A full covariance in z dimensions needs more than z samples: fewer components are used where there are fewer
        than z + 1 distinct latents for each.

        Raises:
            FusionError: there are no latents, or some are not finite.
        """
        if not len(latents) or not latents.isfinite().all():
            actual = f"{len(latents)} latents, {(~latents.isfinite().all(-1)).sum()} of them not finite"
            raise FusionError(
                "a mixture cannot be fitted to these latents", expected="one or more, all finite", actual=actual
            )
        x = latents.detach().double().cpu().numpy()
        weights, means, covariances = _expectation_maximisation(x, len(self.weights))
        used = len(weights)
        self.weights.zero_()[:used] = torch.from_numpy(weights)
        self.means.zero_()[:used] = torch.from_numpy(means)
        self.factors.copy_(torch.eye(self.latent).expand_as(self.factors))
        self.factors[:used] = torch.linalg.cholesky(torch.from_numpy(covariances)).to(self.factors)
        self.fitted.fill_(True)


def _expectation_maximisation(x: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights [c], means [c z] and covariances [c z z], c at most ``components``."""
    from sklearn.mixture import GaussianMixture  # half a second, needed by fits alone

    most = len(np.unique(x, axis=0)) // (x.shape[1] + 1)
    model = GaussianMixture(max(1, min(components, most)), reg_covar=REGULARISATION, max_iter=1000, random_state=0)
    model.fit(np.repeat(x, 2, axis=0) if len(x) == 1 else x)
    return model.weights_, model.means_, model.covariances_
