"""Search the z whose decoding agrees with what is known: Yeh et al., CVPR 2017, arXiv:1607.07539. No encoder is needed.

Axes: b batch, n tokens, v vocabulary, z latent.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot, softplus

from fusion_engine.components import Decoder, TextModality
from fusion_engine.errors import FusionError
from fusion_engine.kernels import double_backward
from fusion_engine.likelihoods import Likelihood
from fusion_engine.masked import Masked
from fusion_engine.masking import surroundings
from fusion_engine.priors import log_density
from fusion_engine.requests import decoder
from fusion_engine.run import Run
from fusion_engine.sampling import singled
from fusion_engine.values import Features, Posterior, Signal
from fusion_engine.wiring import Wiring

Latents = dict[str, Tensor]
"""z by node."""


@dataclass(frozen=True)
class Weights:
    """What an objective adds to the distance.

    Args:
        discriminator: lambda, of softplus(-D(G(z))).
        prior: of -log p(z), where z has a density.
        window: of the neighbourhoods that weigh what is known; None for the default of each modality.
    """

    discriminator: float = 0.003
    prior: float = 0.0
    window: int | None = None


def free_latents(wiring: Wiring, node: str) -> tuple[str, ...]:
    """Name what a decoder's z can be searched at: posteriors and noise above it, else the features that it decodes."""
    above = set[str]()
    for source in wiring.nodes[node].sources:
        above |= _sources(wiring, source)
    found = above or set(wiring.nodes[node].ports["z"])
    return tuple(n for n in wiring.order if n in found)


def _sources(wiring: Wiring, name: str) -> set[str]:
    if wiring.kind(name) in ("posterior", "prior"):
        return {name}
    node = wiring.nodes.get(name)
    return set[str]().union(*(_sources(wiring, s) for s in node.sources)) if node is not None else set()


class Objective:
    """How badly decodings agree with what is known, one number a row.

        row = sum_m sum_i W_i |G_m(z)_i - x_i| + lambda softplus(-D(G(z))) - prior log p(z)

    W is zero where x is hidden and else the share of hidden neighbours (``masking.surroundings``). A modality of which
    the row lacks nothing counts whole, where z reaches its decoder. Discrete data counts -W_t log p(x_t | z) instead.

    Raises:
        FusionError: a text is hidden whose decoder has no density.
    """

    def __init__(self, masked: Masked, latents: tuple[str, ...], weights: Weights) -> None:
        self.masked, self.latents, self.weights = masked, latents, weights
        self.wiring, self.graph = masked.run.wiring, masked.run.graph
        for name in masked.known:
            density = cast(Decoder, self.graph[decoder(self.graph, name)]).density
            if isinstance(self.graph.modalities[name], TextModality) and not density:
                raise FusionError(
                    f"the generator of {name!r} has no density, so its tokens say nothing of how near they are",
                    fix='use method="encode"',
                )

    @cached_property
    def compared(self) -> dict[str, Float[Tensor, "b ..."]]:
        """W by modality: those that are masked, and the others that z decodes."""
        found = {}
        for name in self.graph.modalities:
            node = self.wiring.decoder_of(name)
            if node is None or self.wiring.ancestors(node).isdisjoint(self.latents):
                continue
            if name not in self.masked.known and not cast(Decoder, self.graph[node]).density:
                continue
            data, valid = self.masked.run.batch.signals[name].data, self.valid(name)
            known = self.masked.known.get(name, torch.ones(data.shape, dtype=torch.bool, device=data.device))
            weight = surroundings(known, valid, self.graph.modalities[name], self.weights.window)
            rows = self.masked.run.batch.present[name]
            found[name] = weight * rows.reshape(-1, *[1] * (weight.ndim - 1))
        return found

    def valid(self, name: str) -> Tensor:
        """Tell which elements count at all."""
        data = self.masked.run.batch.signals[name].data
        return self.masked.valid(name) if data.ndim > 1 else torch.ones_like(data, dtype=torch.bool)

    def __call__(self, view: Run) -> Float[Tensor, " b"]:
        """Return the objective of each row in a run in which z stands where it is searched."""
        total = torch.zeros(len(view.batch), device=next(iter(view.batch.present.values())).device)
        for name, weight in self.compared.items():
            total = total + self._distance(name, view[decoder(self.graph, name)], weight)
        if self.weights.discriminator:
            total = total + self.weights.discriminator * self._unreal(view)
        return total + self.weights.prior * self._unlikely(view) if self.weights.prior else total

    def _distance(self, name: str, likelihood: Likelihood, weight: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
        modality, signal = self.graph.modalities[name], self.masked.run.batch.signals[name]
        if isinstance(modality, TextModality):
            soft = one_hot(signal.data, modality.vocabulary) * weight[..., None]
            return -likelihood.log_prob(Signal(soft))
        if not signal.data.is_floating_point():
            return -likelihood.log_prob(signal) * weight.reshape(len(weight), -1)[:, 0]
        made = likelihood.mean.data
        n = min(made.shape[1], signal.data.shape[1])
        real = signal.data.masked_fill(weight == 0, 0.0)
        return (weight[:, :n] * (made[:, :n] - real[:, :n]).abs()).flatten(1).sum(1)

    def _unreal(self, view: Run) -> Float[Tensor, " b"]:
        """Sum softplus(-D(G(z))) over the discriminators."""
        above = frozenset[str]().union(*(self.wiring.ancestors(s) for s in self.wiring.scores))
        made = {m: d for m in self.graph.modalities if m in above and (d := self.wiring.decoder_of(m)) is not None}
        batch = self.masked.run.batch
        values = {
            m: self.graph.modalities[m].relax(view[d], view.noise("relax", d), batch.signals[m])
            for m, d in made.items()
        }
        scored = view.replay(values, present={m: batch.present[m] for m in made})
        total = torch.zeros(len(batch), device=next(iter(batch.present.values())).device)
        for score in self.wiring.scores:
            total = total + softplus(-scored.score(score)).masked_fill(~scored.present(score), 0.0)
        return total

    def _unlikely(self, view: Run) -> Float[Tensor, " b"]:
        """Return -log p(z) of the posteriors and the noise."""
        found = [cast(Posterior, view[n]) for n in self.latents if self.wiring.kind(n) in ("posterior", "prior")]
        return -torch.stack([log_density(q.prior, q.z) for q in found]).sum(0) if found else torch.zeros(())


def optimise(
    masked: Masked, *, steps: int, starts: int, rate: float, weights: Weights, sample: bool = False
) -> dict[str, Signal]:
    """Search z of every row at once by Adam, whose rate falls to zero by a cosine; keep the best of several starts.

    z starts at the posterior's mean given what is known. Where it is noise it starts at draws, ``starts`` of them.
    Rows do not see each other, and no weight gets a gradient.
    """
    run = masked.run
    wiring = run.wiring
    latents = tuple(dict.fromkeys(n for m in masked.known for n in free_latents(wiring, decoder(run.graph, m))))
    objective = Objective(masked, latents, weights)
    base = singled(masked.hidden())
    noise = frozenset(n for n in latents if wiring.kind(n) == "prior")
    best: Latents = {}
    lowest = torch.empty(0)
    for i in range(starts if noise else 1):
        begun = base.replay({}, renew=noise, label=("start", i)) if noise else base
        z, reached = _descended(begun, latents, objective, steps, rate)
        if best:
            better = (reached < lowest)[:, None]
            z = {n: torch.where(better, z[n], best[n]) for n in z}
            reached = torch.minimum(reached, lowest)
        best, lowest = z, reached
    return masked.composite(_placed(base, best), sample)


def _placed(base: Run, z: Mapping[str, Tensor]) -> Run:
    """Replay with z in place of what was inferred or drawn."""
    values = {n: base[n].with_z(x) if isinstance(base[n], Posterior) else Features.of_pooled(x) for n, x in z.items()}
    everywhere = torch.ones(len(base.batch), dtype=torch.bool, device=next(iter(z.values())).device)
    return base.replay(values, present=dict.fromkeys(values, everywhere))


def _descended(
    base: Run, latents: tuple[str, ...], objective: Objective, steps: int, rate: float
) -> tuple[Latents, Float[Tensor, " b"]]:
    """Descend from what stands in the run; return z and the objective that it reaches."""
    z = {n: base.features(n).pooled.detach().clone() for n in latents}
    leaves = [x.requires_grad_() for x in z.values()]
    adam = torch.optim.Adam(leaves, lr=rate)
    device = leaves[0].device.type
    with torch.enable_grad(), double_backward(iter([base.graph]), device):
        for step in range(steps):
            adam.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            value = objective(_placed(base, z)).sum()
            for leaf, gradient in zip(leaves, torch.autograd.grad(value, leaves, allow_unused=True), strict=True):
                leaf.grad = gradient
            adam.step()
    found = {n: x.detach() for n, x in z.items()}
    return found, objective(_placed(base, found)).detach()
