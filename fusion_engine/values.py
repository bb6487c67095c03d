"""What flows along the edges of a graph: signals, features, posteriors; and the batches and terms around them.

Axes: b batch, n tokens, p position, d width, z latent, k samples or mixture components, m modalities.
Masks are True where valid.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from fusion_engine.noise import Noise

Rows = Bool[Tensor, " b"]


class Widths(NamedTuple):
    """The widths of an encoder's or fusion's output: of its tokens (dt) and of its pooled vector (dp)."""

    tokens: int
    pooled: int


def fill(data: Tensor, mask: Bool[Tensor, "*b n"] | None, value: float = 0.0) -> Tensor:
    """Overwrite padded slots of data [*b n ...], whatever they hold (NaN included)."""
    if mask is None:
        return data
    return data.masked_fill(~mask.reshape(*mask.shape, *[1] * (data.ndim - mask.ndim)), value)


@dataclass(frozen=True, eq=False)
class Signal:
    """The tensors of one modality in one batch (or, without the batch axis, of one sample).

    data [b ...]; mask [b n] or None where no sample is ever padded; position [b n p] or None (time stamps, grid).
    """

    data: Tensor
    mask: Bool[Tensor, "*b n"] | None = None
    position: Float[Tensor, "*b n p"] | None = None

    def __len__(self) -> int:
        return len(self.data)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Signal":
        """Apply one function to every tensor."""
        return Signal(*(None if x is None else function(x) for x in (self.data, self.mask, self.position)))  # type: ignore[arg-type]

    def take(self, rows: Tensor) -> "Signal":
        """Keep the given rows: a Bool [b] or the indices [r]."""
        return self.map(lambda x: x[rows])

    def scatter(self, rows: Rows) -> "Signal":
        """Lay r rows out over the b places where ``rows`` is True; zeros and False elsewhere."""
        return self.map(lambda x: scatter_rows(x, rows))

    def put(self, rows: Rows, other: "Signal") -> "Signal":
        """Put the r rows of another signal, of the same slots, in the places where ``rows`` is True."""
        index = (rows.nonzero().squeeze(1),)

        def whole(x: Tensor | None, new: Tensor | None) -> Tensor | None:
            return x if x is None or new is None else x.index_put(index, new)

        return Signal(
            self.data.index_put(index, other.data), whole(self.mask, other.mask), whole(self.position, other.position)
        )

    def filled(self, value: float = 0.0) -> Tensor:
        """Return data with every padded slot overwritten: the first thing an encoder does with it."""
        return fill(self.data, self.mask, value)


def scatter_rows(x: Tensor, rows: Rows) -> Tensor:
    """Lay x [r ...] out as [b ...], zero where ``rows`` is False."""
    return x.new_zeros(len(rows), *x.shape[1:]).index_put((rows.nonzero().squeeze(1),), x)


@dataclass(frozen=True, eq=False)
class Features:
    """What an encoder or fusion returns: tokens [b n dt], pooled [b dp], mask [b n], position [b n p] or None."""

    tokens: Float[Tensor, "b n dt"]
    pooled: Float[Tensor, "b dp"]
    mask: Bool[Tensor, "b n"]
    position: Float[Tensor, "b n p"] | None = None

    @classmethod
    def of_pooled(cls, pooled: Float[Tensor, "b dp"]) -> "Features":
        """Wrap one vector a row; it is also the only token."""
        return cls(pooled[:, None], pooled, torch.ones(len(pooled), 1, dtype=torch.bool, device=pooled.device))

    @classmethod
    def of_tokens(
        cls,
        tokens: Float[Tensor, "b n d"],
        mask: Bool[Tensor, "b n"] | None = None,
        position: Float[Tensor, "b n p"] | None = None,
    ) -> "Features":
        """Pool tokens by the mean over the valid ones; a row with none gives zeros."""
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        tokens = fill(tokens, mask)
        return cls(tokens, tokens.sum(1) / mask.sum(1, keepdim=True).clamp(min=1), mask, position)

    @classmethod
    def absent(cls, b: int, widths: Widths, like: Tensor | None = None) -> "Features":
        """Stand in for an input that no row has: one masked token of zeros a row."""
        like = torch.empty(0) if like is None else like
        return cls(
            like.new_zeros(b, 1, widths.tokens),
            like.new_zeros(b, widths.pooled),
            torch.zeros(b, 1, dtype=torch.bool, device=like.device),
        )

    @property
    def widths(self) -> Widths:
        """The widths of these features."""
        return Widths(self.tokens.shape[-1], self.pooled.shape[-1])

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Features":
        position = None if self.position is None else function(self.position)
        return Features(function(self.tokens), function(self.pooled), function(self.mask), position)

    def take(self, rows: Tensor) -> "Features":
        """Keep the given rows: a Bool [b] or the indices [r]."""
        return self._map(lambda x: x[rows])

    def scatter(self, rows: Rows) -> "Features":
        """Lay r rows out over the b places where ``rows`` is True; zeros and a False mask elsewhere."""
        return self._map(lambda x: scatter_rows(x, rows))


def map_distribution(distribution: Distribution, function: Callable[[Tensor], Tensor]) -> Distribution:
    """Rebuild a location-scale distribution with one function applied to each of its parameters."""
    parameters: dict[str, Any] = {name: function(getattr(distribution, name)) for name in distribution.arg_constraints}
    return type(distribution)(**parameters, validate_args=False)


@dataclass(frozen=True, eq=False)
class Posterior:
    """q(z given x), or a prior in its place: distribution, a value of z, component weights.

    Args:
        distribution: elementwise over z, batch shape [*k b z] (Normal, Laplace ...); a prior without a
            factorised density may have batch shape [b] and event shape [z].
        prior: p(z), broadcastable to it; with its sample axes where components have priors of their own, as those that
            are drawn from one have.
        z: [*k b z]; the mean until ``sampled``.
        weights: [*k b], sum to one over k, zero for components (subsets) that a row lacks.
        experts: one distribution an input, where the posterior is made of such.
        choice: [b], on one sample axis k: the component that uses all that a row has. None without a sample axis.
        sampler: draws z from noise; by default loc + scale * noise for Normal, the inverse CDF for others.
        redraw: draws what is random about the components themselves, before z: a subset of the inputs, say.
    """

    distribution: Distribution
    prior: Distribution
    z: Float[Tensor, "*k b z"]
    weights: Float[Tensor, "*k b"]
    experts: Mapping[str, Distribution] = field(default_factory=dict)
    choice: Int[Tensor, " b"] | None = None
    sampler: Callable[[Noise], Tensor] | None = None
    redraw: Callable[[Noise], "Posterior"] | None = None

    @classmethod
    def of(
        cls,
        distribution: Distribution,
        prior: Distribution,
        *,
        weights: Tensor | None = None,
        experts: Mapping[str, Distribution] | None = None,
        choice: Tensor | None = None,
    ) -> "Posterior":
        """Wrap a factorised distribution [*k b z]; z starts at its mean and the weights as equal shares over k."""
        z = distribution.mean
        if weights is None:
            k = z.shape[:-2].numel()
            weights = z.new_full(z.shape[:-1], 1.0 / k)
        return cls(distribution, prior, z, weights, experts or {}, choice)

    def sampled(self, noise: Noise) -> "Posterior":
        """Return the same posterior with z drawn from it, by reparametrisation where the distribution allows it."""
        if self.redraw is not None:
            return self.redraw(noise.at("components")).sampled(noise)
        if self.sampler is not None:
            return replace(self, z=self.sampler(noise))
        *lead, _, width = self.z.shape
        if isinstance(self.distribution, torch.distributions.Normal):
            eps = noise.normal(width, lead=lead, like=self.z)
            return replace(self, z=self.distribution.loc + self.distribution.scale * eps)
        u = noise.uniform(width, lead=lead, like=self.z).clamp(1e-6, 1 - 1e-6)
        return replace(self, z=self.distribution.icdf(u))

    def kl(self) -> Float[Tensor, "*k b"]:
        """KL(q || p), closed form where torch knows it, else the estimate at z, summed over the latent axis."""
        return self.kl_elements().sum(-1)

    def kl_elements(self) -> Float[Tensor, "*k b z"]:
        """KL per latent element [*k b z]; [*k b 1] where q or p has no factorised density."""
        try:
            divergence = kl_divergence(self.distribution, self.prior)
        except NotImplementedError:
            q, p = self.distribution.log_prob(self.z), self.prior.log_prob(self.z)
            q, p = (x if x.ndim == self.z.ndim else x[..., None] for x in (q, p))
            divergence = q - p if q.shape == p.shape else q.sum(-1, keepdim=True) - p.sum(-1, keepdim=True)
        return divergence if divergence.ndim == self.z.ndim else divergence[..., None]

    def one(self, noise: Noise | None = None) -> "Posterior":
        """Keep one component a row: drawn by weight with noise, else the one that uses all that the row has.

        Posteriors that stand on one sample axis have the same weights: with the same noise they keep the same one.
        """
        if self.z.ndim == 2:
            return self
        b, width = self.z.shape[-2:]
        weights = self.weights.reshape(-1, b)
        if noise is not None:
            cumulated = weights.float().cumsum(0)  # a uniform number in half precision may be 1
            index = (cumulated <= noise.uniform(like=cumulated) * cumulated[-1]).sum(0)
        else:
            index = self.choice if self.choice is not None else weights.argmax(0)

        def pick(x: Tensor) -> Tensor:
            flat = x.expand(*self.z.shape).reshape(-1, b, width)
            return flat[index, torch.arange(b, device=flat.device)]

        chosen = map_distribution(self.distribution, pick)
        own = len(self.prior.batch_shape) == self.z.ndim
        prior = map_distribution(self.prior, pick) if own else self.prior
        return Posterior(chosen, prior, pick(self.z), weights.new_ones(b), self.experts)

    def detached(self) -> "Posterior":
        """Cut z from the graph that made it."""
        return replace(self, z=self.z.detach())

    def with_z(self, z: Float[Tensor, "*k b z"]) -> "Posterior":
        """Put another value of z in."""
        return replace(self, z=z)


def joint_weights(posteriors: Iterable[Posterior]) -> Float[Tensor, "*k b"]:
    """Weigh the components of several posteriors together: component i of each stands with component i of the others.

        weights[k] = prod_p weights_p[k] / sum_k prod_p weights_p[k]

    Posteriors of equal weights keep them; one without a sample axis changes nothing.
    """
    every = [p.weights for p in posteriors]
    several = [w for w in every if w.ndim > 1]
    if len(several) < 2:
        return several[0] if several else every[0]
    product = torch.stack(torch.broadcast_tensors(*several)).prod(0)  # type: ignore[no-untyped-call]
    return product / product.flatten(0, -2).sum(0).clamp(min=torch.finfo(product.dtype).tiny)


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of several modalities; a row that lacks one holds anything there and is False in ``present``.

    Args:
        signals: one a modality, b rows each.
        present: Bool [b] a modality.
        index: [b], each row's place in the step's whole batch; it keys the noise.
        total: the size of that whole batch.
    """

    signals: Mapping[str, Signal]
    present: Mapping[str, Rows]
    index: Int[Tensor, " b"]
    total: int

    @classmethod
    def of(cls, signals: Mapping[str, Signal], present: Mapping[str, Rows] | None = None) -> "Batch":
        """A whole batch by itself, everything present unless said otherwise."""
        b = len(next(iter(signals.values())))
        device = next(iter(signals.values())).data.device
        everywhere = {m: torch.ones(b, dtype=torch.bool, device=device) for m in signals}
        return cls(signals, {**everywhere, **(present or {})}, torch.arange(b), b)

    def __len__(self) -> int:
        return len(self.index)

    def take(self, rows: Tensor) -> "Batch":
        """Keep the given rows; their noise stays theirs."""
        return replace(
            self,
            signals={m: s.take(rows) for m, s in self.signals.items()},
            present={m: p[rows] for m, p in self.present.items()},
            index=self.index[rows.cpu()],
        )

    def to(self, device: torch.device | str) -> "Batch":
        """Move the signals; the noise index stays on the CPU."""
        return replace(
            self,
            signals={m: s.map(lambda x: x.to(device)) for m, s in self.signals.items()},
            present={m: p.to(device) for m, p in self.present.items()},
        )


class Term(NamedTuple):
    """One loss on one batch: a sum over the rows that count, and how many those are.

    Both are added over ranks, accumulation steps and missing rows before they are divided: the mean is exact.
    ``statistics`` are sums over the same rows that nobody minimises: they are logged beside the loss, as means.
    """

    sum: Float[Tensor, ""]
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody calls here
    statistics: Mapping[str, Float[Tensor, ""]] = MappingProxyType({})

    @classmethod
    def of(cls, values: Float[Tensor, " b"], rows: Rows, **statistics: Float[Tensor, " b"]) -> "Term":
        """Sum values [b] where ``rows`` is True; the others may hold anything. Statistics [b] likewise, by name."""
        told = {name: x.detach().masked_fill(~rows, 0.0).sum() for name, x in statistics.items()}
        return cls(values.masked_fill(~rows, 0.0).sum(), rows.sum(), told)


@dataclass(frozen=True)
class Media:
    """One rendered sample: ``mime`` such as image/png, audio/wav, image/svg+xml, text/plain, and its bytes.

    Args:
        mime: its type.
        content: its bytes.
        picture: a PNG that shows it, where it is no picture itself: the spectrogram of a sound.
    """

    mime: str
    content: bytes
    picture: bytes | None = None

    @property
    def suffix(self) -> str:
        """The usual ending of a file of this type."""
        known = {"image/png": ".png", "audio/wav": ".wav", "image/svg+xml": ".svg", "text/plain": ".txt"}
        return known.get(self.mime, ".bin")

    def save(self, path: Path) -> Path:
        """Write to path, with the usual suffix put in its place, and return where."""
        target = path.with_suffix(self.suffix)
        target.write_bytes(self.content)
        return target
