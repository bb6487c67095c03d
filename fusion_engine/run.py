"""The lazy evaluation of a graph on one batch, its replays, and the views that discriminators see.

Asking a run for a node computes what it needs, once. A replay is the same graph with other values in some places.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from fusion_engine.components import Encoder, PosteriorPrior
from fusion_engine.config import Player
from fusion_engine.graph import Graph
from fusion_engine.kernels import double_backward, in_full, running_statistics
from fusion_engine.likelihoods import Likelihood
from fusion_engine.noise import Noise, thin
from fusion_engine.priors import under
from fusion_engine.values import Batch, Features, Posterior, Rows, Signal, joint_weights
from fusion_engine.wiring import Node

Source = Literal["prior", "fitted", "reconstruction"]
"""What generation starts from: draws from the priors of training, from fitted ones, or from the posteriors."""
T = TypeVar("T")


@dataclass(frozen=True)
class Clock:
    """Where training is: steps done, and the share of the whole that they are."""

    step: int = 0
    progress: float = 0.0


@dataclass(frozen=True)
class Setting:
    """What a run shares with all of its replays."""

    noise: Noise
    clock: Clock
    player: Player | None
    sample: bool


class Run:
    """One evaluation of a graph on one batch.

    Args:
        graph: what is computed.
        batch: on what.
        noise: keys every random draw.
        clock: where training is.
        player: whose turn it is; in the generator's, nodes shared with the discriminator are frozen inside views.
        sample: draw z from posteriors; by default in training mode only, else z is the mean.
    """

    def __init__(
        self,
        graph: Graph,
        batch: Batch,
        *,
        noise: Noise | None = None,
        clock: Clock | None = None,
        player: Player | None = None,
        sample: bool | None = None,
    ) -> None:
        self.graph, self.batch, self.wiring = graph, batch, graph.wiring
        drawn = graph.training if sample is None else sample
        self.setting = Setting(noise or Noise(0, batch.index, batch.total), clock or Clock(), player, drawn)
        self.parent: Run | None = None
        self.given: dict[str, Any] = {}
        self.given_present: dict[str, Rows] = {}
        self.label: tuple[object, ...] = ()
        self.stale: frozenset[str] = frozenset(self.wiring.nodes)
        self.frozen: frozenset[str] = frozenset()
        self.at_embedding: Callable[[str, Tensor], Tensor] | None = None
        self._memory: dict[object, Any] = {}

    # Values

    def __getitem__(self, name: str) -> Any:
        """Return a node's value (features, a posterior, a likelihood, a head's output) or a modality's signal."""
        if name in self.given:
            value = self.given[name]
            return self._once(("given", name), value) if callable(value) and not isinstance(value, Tensor) else value
        if self.parent is not None and name not in self.stale:
            return self.parent[name]
        if name in self.wiring.modalities:
            return self.batch.signals[name]
        if name not in self.wiring.nodes:
            self.graph[name]  # raises, with the near names
        return self._once(name, lambda: self._compute(self.wiring.nodes[name]))

    def _once(self, key: object, compute: Callable[[], T]) -> T:
        if key not in self._memory:
            self._memory[key] = compute()
        return cast(T, self._memory[key])

    def forget(self) -> None:
        """Drop all that was computed: views know their parents, and would wait for the garbage collector with them."""
        values, self._memory = list(self._memory.values()), {}
        for value in values:
            if isinstance(value, Run) and value is not self:
                value.forget()

    def _compute(self, node: Node) -> Any:
        if node.kind == "encoder":
            return self._encode(node)
        if node.kind == "decoder":
            return self._decode(node, None)
        if node.kind == "prior":
            return self._prior(node.name).sampled(self.noise("prior", node.name))
        names = node.ports["in"]
        features = {name: self.features(name) for name in names}
        present = torch.stack([self.present(name) for name in names], 1)
        if node.modality_dropout and self.graph[node.name].training:  # the same in every view: real and fake lack alike
            present = thin(present, node.modality_dropout, self.setting.noise.at("modality_dropout", node.name))
        value = self._call(node.name, len(self.batch), features, present)
        return self._drawn(node.name, value, present.any(1)) if node.kind == "posterior" else value

    def _drawn(self, name: str, posterior: Posterior, rows: Rows) -> Posterior:
        """Put the prior that trains with a posterior in its place, and draw z."""
        prior = self.graph.trained_prior(name)
        if prior is not None:
            posterior = under(posterior, self._prior(prior), rows)
        return posterior.sampled(self.noise("posterior", name)) if self.setting.sample else posterior

    def _prior(self, name: str) -> Posterior:
        return call_prior(self.graph, name, len(self.batch), self._call)

    def _call(self, name: str, rows: int, *args: Any) -> Any:
        module = self.graph[name]
        with running_statistics(module, rows):
            if name in self.frozen:
                return functional_call(module, {k: p.detach() for k, p in module.named_parameters()}, args)
            return module(*args)

    def noise(self, *purpose: object) -> Noise:
        """Noise for one purpose in this run or replay."""
        return self.setting.noise.at(*self.label, *purpose)

    @property
    def clock(self) -> Clock:
        """Where training is."""
        return self.setting.clock

    def present(self, name: str) -> Rows:
        """Bool [b]: the rows in which a modality, or any ancestor of a node, is present; everywhere for a prior."""
        if name in self.given_present:
            return self.given_present[name]
        if self.parent is not None and not self.given_present:
            return self.parent.present(name)
        if name in self.wiring.modalities:
            return self.batch.present[name]
        return self._once(("present", name), lambda: self._present(self.wiring.nodes[name]))

    def _present(self, node: Node) -> Rows:
        if not node.sources:
            device = next(iter(self.batch.present.values())).device
            return torch.ones(len(self.batch), dtype=torch.bool, device=device)
        return torch.stack([self.present(s) for s in node.sources]).any(0)

    def anything(self) -> Rows:
        """Bool [b]: the rows that have at least one modality."""
        return torch.stack(list(self.batch.present.values())).any(0)

    def signal(self, name: str) -> Signal:
        """Return a modality's signal, or a differentiable one drawn from a decoder."""
        made = self.wiring.kind(name) == "decoder" and name not in self.given
        value = self._single(name) if made else self[name]
        if isinstance(value, Likelihood):
            modality = self.graph.modalities[str(self.wiring.nodes[name].out)]
            return self._once(("relaxed", name), lambda: modality.relax(value, self.noise("relax", name)).map(in_full))
        return cast(Signal, value)

    def _single(self, decoder: str) -> Likelihood:
        """Decode one component of each posterior, that which ``features`` reads: an encoder takes one signal a row."""
        if self.parent is not None and decoder not in self.stale:
            return self.parent._single(decoder)
        node = self.wiring.nodes[decoder]
        if all(self._latent(s).ndim == 2 for s in node.ports["z"]):
            return cast(Likelihood, self[decoder])
        return self._once(("single", decoder), lambda: self._decode(node, None, single=True))

    def features(self, name: str) -> Features:
        """Return a node's features; a posterior is read as the z of one of its components."""
        value = self[name]
        if isinstance(value, Posterior):
            return self._once(("features", name), lambda: Features.of_pooled(self.one(name).z))
        return cast(Features, value)

    def one(self, posterior: str) -> Posterior:
        """Keep one component of a posterior a row, the same of all that meet in a decoder; drawn where z is sampled."""
        noise = self.noise("component", self.wiring.company(posterior)) if self.setting.sample else None
        return cast(Posterior, self[posterior]).one(noise)

    def _encode(self, node: Node) -> Features:
        encoder = cast(Encoder, self.graph[node.name])
        signal, rows = self.signal(node.ports["in"][0]), self.present(node.name)
        if not rows.any():
            return Features.absent(len(rows), encoder.widths, next(encoder.parameters(), None))
        everywhere = bool(rows.all())
        part = signal if everywhere else signal.take(rows)
        if self.at_embedding is not None and embeds(encoder):
            with running_statistics(encoder, len(part)):
                features = encoder.encode(self.at_embedding(node.name, encoder.embed(part.data.detach())), part)
        else:
            features = self._call(node.name, len(part), part)
        return features if everywhere else features.scatter(rows)

    # Decoding

    def _decode(self, node: Node, rows: Rows | None, *, single: bool = False) -> Likelihood:
        latents = [self.features(s).pooled if single else self._latent(s) for s in node.ports["z"]]
        lead = torch.broadcast_shapes(*(z.shape[:-2] for z in latents))  # type: ignore[no-untyped-call]
        z = torch.cat([z.expand(*lead, *z.shape[-2:]) for z in latents], -1)
        conditions = {port: self.features(names[0]) for port, names in node.ports.items() if port != "z"}
        if rows is not None:
            z, conditions = z[..., rows, :], {port: c.take(rows) for port, c in conditions.items()}
        return cast(Likelihood, self._call(node.name, z.shape[:-1].numel(), z, conditions))

    def _latent(self, name: str) -> Float[Tensor, "*k b z"]:
        value = self[name]
        return value.z if isinstance(value, Posterior) else cast(Features, value).pooled

    def likelihood(self, decoder: str) -> tuple[Likelihood | None, Rows]:
        """Decode only the rows that have the decoder's modality; None where there is no such row."""
        node = self.wiring.nodes[decoder]
        rows = self.present(str(node.out))
        if rows.all():
            return self[decoder], rows
        if not rows.any():
            return None, rows
        return self._once(("likelihood", decoder), lambda: self._decode(node, rows)), rows

    def weights(self, decoder: str) -> Float[Tensor, "*k b"]:
        """Weights of the sample axes of what a decoder returns; they sum to one over k."""
        values = [self[s] for s in self.wiring.nodes[decoder].ports["z"]]
        posteriors = [p for p in values if isinstance(p, Posterior)]
        if not posteriors:
            return torch.ones(len(self.batch), device=self.present(decoder).device)
        return joint_weights(posteriors)

    # Replays and views

    def replay(
        self,
        values: Mapping[str, Any],
        *,
        renew: frozenset[str] = frozenset(),
        frozen: frozenset[str] = frozenset(),
        label: tuple[object, ...] = (),
        present: Mapping[str, Rows] | None = None,
    ) -> "Run":
        """Return the same graph with other values in some places; only what is downstream of them is computed again.

        Args:
            values: by node or modality; a function is called when its value is first asked for.
            renew: nodes to compute again although their sources stay.
            frozen: nodes to compute again with weights that receive no gradient.
            label: sets the replay's own noise apart.
            present: who is present, where that changes too.
        """
        child = Run.__new__(Run)
        child.graph, child.batch, child.wiring, child.setting = self.graph, self.batch, self.wiring, self.setting
        child.parent, child.given = self, {**self.given, **values}
        child.given_present = {**self.given_present, **(present or {})}
        child.label, child.frozen = (*self.label, *label), self.frozen | frozen
        child.at_embedding, child._memory = self.at_embedding, {}
        changed = set(values) | renew | frozen
        stale = set[str]()
        for name in self.wiring.order:
            if name not in child.given and (name in changed or not changed.isdisjoint(self.wiring.nodes[name].sources)):
                stale.add(name)
                changed.add(name)
        child.stale = frozenset(stale)
        return child

    def _adversarial(self) -> frozenset[str]:
        """Nodes of all discriminators that the generator also owns: frozen in its adversarial views."""
        if self.setting.player != "generator":
            return frozenset()
        return frozenset().union(*(self.wiring.trunk(s) for s in self.wiring.scores)) & self.wiring.shared

    def real(self) -> "Run":
        """Return the view of the real batch that discriminators score.

        What is inferred from it is data to a discriminator: in its turn no gradient reaches a shared encoder that way.
        """
        frozen = self._adversarial()
        if not frozen and not (self.setting.player == "discriminator" and self.wiring.shared):
            return self
        values = {p: (lambda p=p: self._inferred(p)) for p in self._replaceable()}
        return self._once("real", lambda: self.replay(values, frozen=frozen))

    def _inferred(self, posterior: str) -> Posterior:
        value = cast(Posterior, self[posterior])
        given = self.setting.player == "discriminator" and posterior not in self.wiring.players["discriminator"]
        return value.detached() if given else value

    def _replaceable(self) -> list[str]:
        """The posteriors that generation starts from: all but those that the discriminator alone owns."""
        discriminator = self.wiring.players["discriminator"] - self.wiring.players["generator"]
        return [p for p in self.wiring.of_kind("posterior") if p not in discriminator]

    def generated(self, source: Source, *, detach: bool = True) -> "Run":
        """Return the run in which every posterior gives way to what generation starts from.

        Args:
            source: a draw from each posterior's prior, or from the fitted one where it has such; or one component of
                the posterior itself.
            detach: cut z from the encoders, and from priors that train.
        """
        values = {p: (lambda p=p: self._start(p, source, detach)) for p in self._replaceable()}
        return self._once(("generated", source, detach), lambda: self.replay(values, label=("generated", source)))

    def _start(self, posterior: str, source: Source, detach: bool) -> Posterior:
        noise = self.noise("start", source, self.wiring.company(posterior) if source == "reconstruction" else posterior)
        if source != "reconstruction":
            fitted = self._fitted() if source == "fitted" else {}
            draw = fitted.get(posterior) or prior_draw(self.graph, posterior, len(self.batch), noise)
            return draw.detached() if detach else draw
        one = cast(Posterior, self[posterior]).one(noise)
        return one.detached() if detach else one

    def _fitted(self) -> Mapping[str, Posterior]:
        """Draw from all fitted priors at once: one may stand for several posteriors."""
        noise, names = self.noise("start", "fitted"), self.graph.fitted_priors()
        return self._once("fitted", lambda: fitted_draws(self.graph, names, len(self.batch), noise))

    def fake(self, source: Source, *, detach: bool = True) -> "Run":
        """Return the view of generated data that discriminators score.

        Every modality above a score that has a decoder is generated. It keeps ``present`` and the mask of the real row
        it is paired with; a condition without a decoder stays real.
        """
        detach = detach or self.setting.player == "discriminator"
        return self._once(("fake", source, detach), lambda: self._fake(source, detach))

    def _fake(self, source: Source, detach: bool) -> "Run":
        view = self.generated(source, detach=detach)
        above = frozenset().union(*(self.wiring.ancestors(s) for s in self.wiring.scores))
        values: dict[str, Any] = {}
        for modality in self.wiring.modalities:
            decoder = self.wiring.decoder_of(modality)
            if modality in above and decoder is not None:
                values[modality] = lambda m=modality: self.paired(view, m)
        return view.replay(values, frozen=self._adversarial(), label=("fake",))

    def paired(self, view: "Run", modality: str) -> Signal:
        """Return what a view decodes as one modality, differentiably, with the mask of the rows that it is paired with.

        Only rows that have the modality are decoded. In the discriminator's turn it is data: no gradient leaves it.
        """
        real, decoder = self.batch.signals[modality], str(self.wiring.decoder_of(modality))
        likelihood, rows = view.likelihood(decoder)
        if likelihood is None:
            return real
        everywhere = bool(rows.all())
        like = real if everywhere else real.take(rows)
        noise = view.noise("relax", decoder)
        noise = noise if everywhere else replace(noise, index=noise.index[rows.cpu()])
        signal = self.graph.modalities[modality].relax(likelihood, noise, like).map(in_full)
        if self.setting.player == "discriminator":
            signal = signal.map(Tensor.detach)
        return signal if everywhere else signal.scatter(rows)

    def augmented(self, score: str, chosen: Mapping[str, tuple[str, ...]], probability: float) -> "Run":
        """Return the view in which the discriminator of a score, and nothing else, sees modalities augmented.

        Each augmentation of a modality changes each row with the given probability, independently (Karras et al., 2020,
        arXiv:2006.06676, section 2.2). What the discriminator takes from posteriors, priors and decoders stays.

        Args:
            score: a score head.
            chosen: names of augmentations, in order, by modality.
            probability: of each change of each row.
        """
        if probability == 0:
            return self
        key = ("augmented", score, tuple(chosen.items()), probability)
        return self._once(key, lambda: self._augmented(score, chosen, probability))

    def _augmented(self, score: str, chosen: Mapping[str, tuple[str, ...]], probability: float) -> "Run":
        boundary = self.wiring.boundary(score)
        made = {s: self.wiring.nodes[s].out if self.wiring.kind(s) == "decoder" else s for s in boundary}
        values: dict[str, Any] = {
            s: (lambda s=s, m=m: self._changed(s, str(m), chosen[str(m)], probability))
            for s, m in made.items()
            if m in chosen
        }
        below = self.wiring.descendants(values)
        for s in boundary:
            if s in below and s not in values:
                decoder = self.wiring.kind(s) == "decoder"
                values[s] = (lambda s=s: self.signal(s)) if decoder else (lambda s=s: self[s])
        return self.replay(values)

    def _changed(self, source: str, modality: str, names: Iterable[str], probability: float) -> Signal:
        signal, present = self.signal(source), self.present(source)
        for name in names:
            noise = self.noise("augment", source, name)
            rows = present & (noise.at("rows").uniform() < probability).to(present.device)
            if rows.any():
                its = replace(noise, index=noise.index[rows.cpu()])
                changed = self.graph.modalities[modality].augment(signal.take(rows), name, its)
                signal = signal.put(rows, changed)
        return signal

    # Penalties

    def score(self, name: str) -> Float[Tensor, " b"]:
        """Return a score head's output, one number a row."""
        return cast(Tensor, self[name]).sum(-1)

    def score_and_gradient(self, name: str) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Score each row, with the squared norm of the score's gradient to all that the discriminator looks at.

        Discrete data is differentiated at its embedding. Where the discriminator has no double backward, the squared
        norm is estimated by ((D(x + s e) - D(x)) / s)^2 with e ~ N(0, I) (arXiv:2501.08316).
        """
        approximate = name in self.graph.approximated
        compute = self._estimated_gradient if approximate else self._exact_gradient
        return self._once(("gradient", name), lambda: compute(name))

    def _lift(self, name: str, change: Callable[[str, Tensor], Tensor]) -> "Run":
        """Replay the discriminator of a score with every input, or embedding of an input, passed through ``change``."""
        trunk, values = self.wiring.trunk(name), dict[str, Any]()
        for source in self.wiring.boundary(name):
            value = self[source] if self.wiring.kind(source) in ("posterior", "prior") else self.signal(source)
            if isinstance(value, Posterior):
                values[source] = value.with_z(change(source, value.z.detach()))
            elif any(not embeds(cast(Encoder, self.graph[n])) for n in trunk if source in self.wiring.nodes[n].sources):
                values[source] = Signal(change(source, value.data.detach()), value.mask, value.position)
        view = self.replay(values, renew=trunk)
        view.at_embedding = change
        self._memory["lifted", name, len(self._memory)] = view
        return view

    def _exact_gradient(self, name: str) -> tuple[Tensor, Tensor]:
        leaves: dict[str, Tensor] = {}

        def leaf(source: str, value: Tensor) -> Tensor:
            full = in_full(value)  # an embedding stays attached: the discriminator's own, it learns
            leaves[source] = full if full.requires_grad else full.clone().requires_grad_()
            return leaves[source]

        device = self.present(name).device.type
        with double_backward((self.graph[n] for n in self.wiring.trunk(name)), device):
            view = self._lift(name, leaf)
            score, rows = view.score(name), self.present(name)
            found = torch.autograd.grad(
                score.masked_fill(~rows, 0).sum(), list(leaves.values()), create_graph=True, allow_unused=True
            )
            squared = torch.zeros_like(score)
            for source, gradient in zip(leaves, found, strict=True):
                if gradient is not None:
                    squared = squared + self._per_row(source, gradient.pow(2))
        return score, squared

    def _per_row(self, source: str, x: Tensor) -> Float[Tensor, " b"]:
        """Sum over all but the batch axis; an encoder's embedding holds only the rows that are present."""
        if self.wiring.kind(source) in ("posterior", "prior"):
            return x.flatten(0, -3).sum((0, -1)) if x.ndim > 2 else x.sum(-1)
        summed = x.flatten(1).sum(1) if x.ndim > 1 else x
        rows = self.present(source)
        return (
            summed
            if len(summed) == len(rows)
            else summed.new_zeros(len(rows)).index_put((rows.nonzero().squeeze(1),), summed)
        )

    def _estimated_gradient(self, name: str, deviation: float = 0.01) -> tuple[Tensor, Tensor]:
        def shake(source: str, value: Tensor) -> Tensor:
            lead = value.shape[:-2] if self.wiring.kind(source) in ("posterior", "prior") else ()
            noise = self.noise("penalty", name, source)
            e = noise.normal(*value.shape[len(lead) + 1 :], lead=lead, like=in_full(value))
            return value + deviation * (e if e.shape == value.shape else e[self.present(source)])

        with torch.autocast(self.present(name).device.type, enabled=False):
            score = self._lift(name, lambda _, value: in_full(value)).score(name)
            shaken = self._lift(name, shake).score(name)
        return score, ((shaken - score) / deviation).pow(2)


def prior_draw(graph: Graph, posterior: str, b: int, noise: Noise) -> Posterior:
    """Draw b rows from the prior that a posterior is trained with; no encoder runs."""
    node = graph.trained_prior(posterior)
    if node is None:
        return cast(Posterior, graph.prior_of(posterior)(b)).sampled(noise)
    return call_prior(graph, node, b, partial(_call, graph)).sampled(noise)


def _call(graph: Graph, name: str, rows: int, *args: Any) -> Any:
    with running_statistics(graph[name], rows):
        return graph[name](*args)


def call_prior(graph: Graph, name: str, b: int, call: Callable[..., Any]) -> Posterior:
    """Evaluate a prior node for b rows by ``call(name, rows, *args)``; some are made of the posterior they are of."""
    if not isinstance(graph[name], PosteriorPrior):
        return cast(Posterior, call(name, b, b))
    (posterior,) = graph.wiring.nodes[name].of
    infer = partial(call, posterior, 1)  # one row: a prior leaves the statistics of the posterior's BatchNorm alone
    return cast(Posterior, call(name, b, b, infer))


def fitted_draws(graph: Graph, priors: Iterable[str], b: int, noise: Noise) -> dict[str, Posterior]:
    """Draw b rows of every posterior that the given priors were fitted to."""
    draws: dict[str, Posterior] = {}
    for name in priors:
        posteriors = graph.fitted_priors()[name]
        z = cast(Posterior, graph[name](b)).sampled(noise.at(name)).z
        parts = torch.split(z, [graph.posterior(p).latent for p in posteriors], -1)
        for p, part in zip(posteriors, parts, strict=True):
            draws[p] = prior_draw(graph, p, b, noise.at(p)).with_z(part)
    return draws


def embeds(encoder: Encoder) -> bool:
    """Whether an encoder has an embedding of its own, on which penalties are taken instead of on its input."""
    return type(encoder).embed is not Encoder.embed
