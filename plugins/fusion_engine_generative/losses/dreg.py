"""Doubly reparametrised gradient of the importance-weighted bound: Tucker et al. 2019, arXiv:1810.04152."""

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from fusion_engine import Posterior
from fusion_engine_generative.losses.importance import Densities, ImportanceBound, Latents, densities, has_own_priors


class DReG(ImportanceBound):
    """The bound of ``loss/iwae``, with a gradient to the posterior of the same mean that does not drown in scatter.

        d/dphi = sum_s v_s^2 dlog w_s/dz dz/dphi,  v = softmax over s of log w      (phi: what q is made of)
        d/dtheta = sum_s v_s dlog w_s/dtheta                                        (theta: decoders, prior)

    IWAE's gradient to q gets noisier with more draws (Rainforth et al. 2018, arXiv:1802.04537), this one does not; its
    scatter vanishes as q approaches the true posterior, while far from it, at first, it may be the larger one.
    In a mixture the score of q is that of all components, sum_j r_j dlog q_j/dphi with r_j(z) the share of component j
    in q(z): the identity above is applied to the share r_k of the component that drew z, and what remains of the score
    keeps its plain form with the baseline 1 / S, whose mean over the components is zero. It vanishes at S = 1.
    What is drawn from its own prior (components of ``cross_private``) has no score, and its path derivative weighs v_s.
    Missing modalities and rows are treated as by ``loss/iwae``, and so are posteriors that share a sample axis.
    Axes: s samples, k components, j components as densities, b batch, m modalities, z latent.

    Args:
        samples: S, draws of each component.
        chunk: how many of them are decoded in one call.
        weight: of the term.
        weights: w_m by modality, 1 where not named.
        balance: multiply w_m by the largest size of a modality over its own, as ``loss/reconstruction`` does.
        nodes: which decoders (globs); the posteriors are those that they read.

    Raises:
        BuildError: a decoder reads no posterior, is behind another one, or has no density.
    """

    def objective(
        self, posteriors: Mapping[str, Posterior], drawn: Latents, decode: Callable[[Latents], Tensor]
    ) -> Tensor:
        """Return the bound of each component, whose backward pass is the estimator above."""
        factors: dict[str, Tensor] = {}
        path = {name: _scaled_backward(z, factors, name) for name, z in drawn.items()}
        held = densities(posteriors, path, hold=True)
        log_w = decode(path) + held.ratio
        v = log_w.detach().softmax(0)
        own = None if held.components is None else _own(held.components.detach().softmax(-2))
        for name, posterior in posteriors.items():
            factors[name] = (1 - (1 - v) * _share(posterior, own))[..., None]
        surrogate = v * log_w
        if held.components is not None and torch.is_grad_enabled():
            surrogate = surrogate - (v - 1 / self.samples) * _share_of_score(posteriors, drawn)
        bound = log_w.logsumexp(0) - math.log(self.samples)
        return bound.detach() + (surrogate - surrogate.detach()).sum(0)


def _share(posterior: Posterior, own: Tensor | None) -> Tensor | float:
    """How much of log q's derivative is that of the distribution that drew z: r_k of a mixture, none where q is p."""
    if has_own_priors(posterior):
        q, p = posterior.distribution, posterior.prior
        equal = torch.stack([(getattr(q, x) == getattr(p, x)).all(-1) for x in q.arg_constraints]).all(0)
        return (~equal).to(posterior.z.dtype)
    return own if own is not None and posterior.z.ndim > 2 else 1.0


def _scaled_backward(z: Tensor, factors: Mapping[str, Tensor], name: str) -> Tensor:
    """Return z, whose gradient will be multiplied by ``factors[name]``, known when it arrives."""
    same = z.view_as(z)
    if same.requires_grad:
        same.register_hook(lambda gradient: gradient * factors[name])  # type: ignore[no-untyped-call]
    return same


def _own(components: Float[Tensor, "s *k j b"]) -> Float[Tensor, "s *k b"]:
    """Take what belongs to the component that drew each sample: the diagonal of k and j."""
    s, *lead, j, b = components.shape
    return components.reshape(s, j, j, b).diagonal(dim1=1, dim2=2).movedim(-1, 1).reshape(s, *lead, b)


def _share_of_score(posteriors: Mapping[str, Posterior], drawn: Latents) -> Float[Tensor, "s *k b"]:
    """Return a number whose gradient is dr_k/dz dz/dphi + sum_(j != k) r_j dlog q_j/dphi."""
    along: Densities = densities(posteriors, drawn, hold=True)
    at: Densities = densities(posteriors, {n: z.detach() for n, z in drawn.items()})
    assert along.components is not None and at.components is not None  # noqa: PT018
    path = _own(along.components.softmax(-2))
    r = at.components.detach().softmax(-2)
    scores = torch.where(r > 0, r * at.components, 0.0)
    return path + scores.sum(-2) - _own(scores)
