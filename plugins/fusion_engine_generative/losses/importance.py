"""What bounds by importance sampling share: draws, their decodings and their densities.

Axes: s importance samples, k components of the posteriors (*k: none or more axes of them), j components whose density
is taken (the same ones, flattened), b batch, z latent.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, cast

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusion_engine import (
    BuildError,
    Graph,
    Loss,
    Noise,
    Player,
    Posterior,
    Run,
    Term,
    joint_weights,
    log_density,
    map_distribution,
    nodes_of,
)
from fusion_engine_generative.losses.reconstruction import check_decoders, decoder_scales

Latents = Mapping[str, Float[Tensor, "s *k b z"]]


@dataclass(frozen=True)
class Densities:
    """Log densities of draws [s *k b] under prior and posterior, and where several components might have drawn them.

    Args:
        ratio: log p(z) - log q(z), q the mixture where there is one, summed over posteriors.
        components: log(weight_j q_j(z)) of the posteriors that are mixtures, together; None where none is.
    """

    ratio: Float[Tensor, "s *k b"]
    components: Float[Tensor, "s *k j b"] | None


class ImportanceBound(Loss):
    """A lower bound on log p(x) from several draws of each component; a subclass says how its gradient is taken.

    Args:
        graph: what it will read.
        samples: draws of each component.
        chunk: how many of them are decoded in one call.
        weight: of the term.
        weights: factor of each modality's log-likelihood.
        balance: weigh modalities by their size, as ``loss/reconstruction`` does.
        nodes: which decoders (globs).

    Raises:
        BuildError: a decoder has no posterior, is behind another one, or has no density.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        samples: Annotated[int, Field(ge=1)] = 8,
        chunk: Annotated[int, Field(ge=1)] = 16,
        weight: Annotated[float, Field(ge=0)] = 1.0,
        weights: dict[str, Annotated[float, Field(ge=0)]] | None = None,
        balance: bool = True,
        nodes: list[str] | None = None,
    ) -> None:
        super().__init__(graph, ["generator"], weight)
        self.samples, self.chunk = samples, chunk
        self.decoders = nodes_of(graph, "decoder", nodes or ["*"], "'nodes'")
        check_decoders(graph, self.decoders)
        self.scales = decoder_scales(graph, self.decoders, weights or {}, balance)
        self.posteriors = _posteriors(graph, self.decoders)

    @abstractmethod
    def objective(
        self, posteriors: Mapping[str, Posterior], drawn: Latents, decode: Callable[[Latents], Tensor]
    ) -> Tensor:
        """Return the bound of each component [*k b]; ``decode`` gives log p(x | z) [s *k b]."""

    def forward(self, run: Run, player: Player) -> Term:
        """Weigh the components' bounds, over the rows that have anything."""
        posteriors = {name: cast(Posterior, run[name]) for name in self.posteriors}
        lead = _sample_axes(posteriors)
        weights = joint_weights(posteriors.values())
        drawn = {name: draws(p, (self.samples, *lead), run.noise("importance", name)) for name, p in posteriors.items()}
        bounds = self.objective(posteriors, drawn, lambda z: self._log_likelihood(run, posteriors, z))
        bound = torch.where(weights > 0, weights * bounds, 0.0)
        return Term.of(-(bound.flatten(0, -2).sum(0) if lead else bound), run.anything())

    def _log_likelihood(self, run: Run, posteriors: Mapping[str, Posterior], drawn: Latents) -> Float[Tensor, "s *k b"]:
        found = []
        for start in range(0, self.samples, self.chunk):
            part = {n: at(posteriors[n], z[start : start + self.chunk]) for n, z in drawn.items()}
            view = run.replay(part, label=("importance", start))
            shape = next(iter(part.values())).z.shape[:-1]
            found.append(torch.stack([self._decoded(view, d, shape) for d in self.decoders]).sum(0))
        return torch.cat(found)

    def _decoded(self, view: Run, decoder: str, shape: torch.Size) -> Float[Tensor, "s *k b"]:
        """Return the scaled log p(x | z), zero in the rows that lack the decoder's modality."""
        likelihood, rows = view.likelihood(decoder)
        if likelihood is None:
            return torch.zeros(shape, device=rows.device)
        signal = view.batch.signals[str(view.wiring.nodes[decoder].out)]
        if rows.all():
            return self.scales[decoder] * likelihood.log_prob(signal)
        log_prob = self.scales[decoder] * likelihood.log_prob(signal.take(rows))
        everywhere = log_prob.new_zeros(shape)
        everywhere[..., rows] = log_prob
        return everywhere


def _posteriors(graph: Graph, decoders: tuple[str, ...]) -> tuple[str, ...]:
    """Name the posteriors that the decoders read, which must be all that stand above them."""
    wiring = graph.wiring
    every = wiring.of_kind("posterior")
    read = {s for d in decoders for s in wiring.nodes[d].ports["z"] if s in every}
    for name in decoders:
        direct = {s for s in wiring.nodes[name].ports["z"] if s in every}
        hidden = sorted((wiring.ancestors(name) & set(every)) - direct)
        if not direct or hidden:
            raise BuildError(
                f"{name!r} does not decode what a posterior draws, and that alone",
                where=f"node {name!r}, port 'z'",
                expected="posteriors, and none above them or behind a condition",
                actual=f"posteriors above it: {', '.join(sorted(direct) + hidden) or 'none'}",
                fix="leave it out with 'nodes', or use loss/reconstruction and loss/kl",
            )
    return tuple(p for p in every if p in read)


def _sample_axes(posteriors: Mapping[str, Posterior]) -> tuple[int, ...]:
    found = {n: tuple(p.z.shape[:-2]) for n, p in posteriors.items() if p.z.ndim > 2}
    if len(set(found.values())) > 1:
        raise BuildError(
            "the posteriors of this bound have different components",
            actual=", ".join(f"{n}: {list(k)}" for n, k in found.items()),
            fix="give each its own loss, with 'nodes'",
        )
    return next(iter(found.values()), ())


def draws(posterior: Posterior, lead: tuple[int, ...], noise: Noise) -> Float[Tensor, "s *k b z"]:
    """Draw z anew, ``lead`` [s *k] times, by reparametrisation."""
    shape = (*lead, *posterior.z.shape[-2:])
    sampler = posterior.sampler
    if sampler is not None:
        z = torch.stack([sampler(noise.at(i)) for i in range(lead[0])])
        return z.reshape(lead[0], *[1] * (len(shape) - z.ndim), *z.shape[1:]).expand(shape)
    return at(posterior, posterior.z.expand(shape)).sampled(noise).z


def at(posterior: Posterior, z: Float[Tensor, "s *k b z"]) -> Posterior:
    """Put draws in the place of z, all of the same weight."""
    weights = z.new_full(z.shape[:-1], 1 / z.shape[:-2].numel())
    return replace(posterior, z=z, weights=weights, redraw=None)


def has_own_priors(posterior: Posterior) -> bool:
    """Whether each component has a prior of its own."""
    return len(posterior.prior.batch_shape) > 2


def densities(posteriors: Mapping[str, Posterior], drawn: Latents, *, hold: bool = False) -> Densities:
    """Take the densities of draws.

    Components that have a prior each (``cross_private``) count one by one; all others, which stand for one q(z | x),
    by their mixture, jointly where several posteriors share the sample axis.

    Args:
        posteriors: by name.
        drawn: by name.
        hold: take the parameters of q as constants.
    """
    weights = joint_weights(posteriors.values())
    ratio: Tensor | float = 0.0
    components: Tensor | None = None
    for name, posterior in posteriors.items():
        z, q, p = drawn[name], posterior.distribution, posterior.prior
        q = map_distribution(q, Tensor.detach) if hold else q
        apart = has_own_priors(posterior)
        p = map_distribution(p, Tensor.detach) if hold and apart else p
        ratio = ratio + log_density(p, z)
        if apart or posterior.z.ndim == 2:
            ratio = ratio - log_density(q, z)
        else:
            each = map_distribution(q, lambda x: x.flatten(0, -3))
            found = log_density(each, z[..., None, :, :].expand(*z.shape[:-2], *each.batch_shape))
            components = found if components is None else components + found
    if components is not None:
        share = (weights.detach() if hold else weights).flatten(0, -2)
        components = torch.where(
            share > 0, share.clamp(min=torch.finfo(share.dtype).tiny).log() + components, -torch.inf
        )
        ratio = ratio - components.logsumexp(-2)
    return Densities(cast(Tensor, ratio), components)
