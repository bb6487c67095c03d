"""Who feeds whom: the names, ports, order and players of a graph. No torch: a wrong wiring is found in milliseconds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

from fusion_engine.config import MONITORED, PLAYERS, NodeConfig, Player, RunConfig, StageConfig
from fusion_engine.errors import ConfigError, PluginError, nearest
from fusion_engine.plugins import Entry, Registry

FEATURES = frozenset({"encoder", "fusion", "posterior", "prior"})
"""Kinds that may stand in a features port: a posterior or prior is read as its z."""
TAKES = {
    "encoder": frozenset({"modality", "decoder"}),
    "fusion": FEATURES,
    "posterior": FEATURES,
    "head": FEATURES,
    "decoder": FEATURES,
    "prior": frozenset[str](),
}
LOSS_PORTS = {"score": frozenset({"head"}), "head": frozenset({"head"}), "nodes": frozenset(TAKES)}
"""Keys of a loss's config that name nodes; ``nodes`` may hold globs."""


@dataclass(frozen=True)
class Node:
    """One node as wired: ``ports`` maps a port's name to the names wired into it."""

    name: str
    kind: str
    use: str
    ports: Mapping[str, tuple[str, ...]]
    out: str | None = None
    of: tuple[str, ...] = ()
    modality_dropout: float = 0.0

    @property
    def sources(self) -> tuple[str, ...]:
        """All names wired into it."""
        return tuple(name for names in self.ports.values() for name in names)


def _tuple(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _ports(name: str, kind: str, config: NodeConfig) -> dict[str, tuple[str, ...]]:
    where = f"node {name!r}"
    wired = config.in_
    if kind == "prior":
        if wired is not None:
            raise ConfigError(
                "a prior has no inputs", where=where, fix="remove 'in'; use 'of' to fit it to a posterior's latents"
            )
        return {}
    if wired is None:
        raise ConfigError(f"the {kind} has nothing wired into it", where=where, fix="add 'in'")
    if kind == "decoder":
        ports = {k: _tuple(v) for k, v in wired.items()} if isinstance(wired, dict) else {"z": _tuple(wired)}
        if not ports.get("z"):
            raise ConfigError(
                "the decoder has no latent",
                where=f"{where}, port 'z'",
                fix="wire a posterior, a prior or features: in: {z: ...}",
            )
        for port, names in ports.items():
            if port != "z" and len(names) != 1:
                raise ConfigError(
                    "a condition takes one node",
                    where=f"{where}, port {port!r}",
                    actual=str(list(names)),
                    fix="fuse them first",
                )
        return ports
    if isinstance(wired, dict):
        raise ConfigError(
            f"the {kind} takes a name or a list of names", where=f"{where}, port 'in'", actual=f"the mapping {wired}"
        )
    names = _tuple(wired)
    if kind == "encoder" and len(names) != 1:
        raise ConfigError(
            "an encoder takes one modality or decoder",
            where=f"{where}, port 'in'",
            actual=str(list(names)),
            fix="one encoder each, then a fusion",
        )
    if not names or len(set(names)) < len(names):
        raise ConfigError(
            "inputs are named once each, and at least one", where=f"{where}, port 'in'", actual=str(list(names))
        )
    return {"in": names}


@dataclass(frozen=True)
class Wiring:
    """A checked wiring.

    Args:
        modalities: full component name by modality.
        nodes: by name.
        scores: the heads that some loss names as its ``score``: what makes a discriminator.
        given: players named in the config.
    """

    modalities: Mapping[str, str]
    nodes: Mapping[str, Node]
    scores: tuple[str, ...] = ()
    given: Mapping[Player, tuple[str, ...]] | None = None

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Node names, every one after its sources; as declared where that leaves a choice.

        Raises:
            ConfigError: there is a cycle; the message walks it.
        """
        sorter = TopologicalSorter(
            {n: [s for s in (*node.sources, *node.of) if s in self.nodes] for n, node in self.nodes.items()}
        )
        try:
            return tuple(sorter.static_order())
        except CycleError as error:
            walk = " -> ".join(error.args[1])
            raise ConfigError(
                "the wiring has a cycle",
                actual=walk,
                fix="a decoder may feed a second encoder; no node may feed itself",
            ) from None

    @cached_property
    def _ancestors(self) -> dict[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {m: frozenset() for m in self.modalities}
        for name in self.order:
            sources = self.nodes[name].sources
            found[name] = frozenset(sources).union(*(found[s] for s in sources))
        return found

    def ancestors(self, name: str) -> frozenset[str]:
        """Everything above a node, modalities included."""
        return self._ancestors[name]

    def conditions(self, name: str) -> frozenset[str]:
        """Everything above a node up to the nearest posteriors: what still counts when those are replaced."""
        found, todo = set[str](), list(self.nodes[name].sources)
        while todo:
            source = todo.pop()
            if self.kind(source) != "posterior" and source not in found:
                found.add(source)
                todo.extend(self.nodes[source].sources if source in self.nodes else ())
        return frozenset(found)

    def descendants(self, names: Iterable[str]) -> frozenset[str]:
        """Everything below any of the names, themselves left out."""
        wanted = set(names)
        return frozenset(n for n in self.nodes if self._ancestors[n] & wanted)

    @cached_property
    def _companies(self) -> dict[str, str]:
        first = {p: p for p in self.of_kind("posterior")}
        for decoder in self.of_kind("decoder"):
            met = {first[s] for s in self.nodes[decoder].ports["z"] if s in first}
            head = next((p for p in first if p in met), "")
            first = {p: head if f in met else f for p, f in first.items()}
        return first

    def company(self, posterior: str) -> str:
        """The first of the posteriors that meet this one in decoders, and so share a sample axis with it."""
        return self._companies.get(posterior, posterior)

    def kind(self, name: str) -> str:
        """The kind of a node, or ``modality``."""
        return self.nodes[name].kind if name in self.nodes else "modality"

    def of_kind(self, kind: str) -> tuple[str, ...]:
        """Node names of one kind, in order."""
        return tuple(n for n in self.order if self.nodes[n].kind == kind)

    def decoder_of(self, modality: str) -> str | None:
        """The decoder that makes a modality: the first declared."""
        return next((n for n, node in self.nodes.items() if node.kind == "decoder" and node.out == modality), None)

    def trunk(self, score: str) -> frozenset[str]:
        """The discriminator of a score: the head and what leads to it, back to posteriors, priors and decoders.

        Those that the config gives to the discriminator are part of it, and what leads to them too.
        """
        return self._walk(
            score, match((self.given or {}).get("discriminator", ()), self.nodes, "players.discriminator")
        )

    def _walk(self, score: str, through: frozenset[str] = frozenset()) -> frozenset[str]:
        found, todo = set[str](), [score]
        while todo:
            name = todo.pop()
            if name in self.nodes and (
                self.nodes[name].kind not in ("posterior", "prior", "decoder") or name in through
            ):
                found.add(name)
                todo.extend(self.nodes[name].sources)
        return frozenset(found)

    def boundary(self, score: str) -> tuple[str, ...]:
        """What the discriminator of a score looks at: modalities, posteriors, priors and decoders, in order."""
        trunk = self.trunk(score)
        return tuple(
            dict.fromkeys(s for n in self.order if n in trunk for s in self.nodes[n].sources if s not in trunk)
        )

    @cached_property
    def players(self) -> dict[Player, frozenset[str]]:
        """Which nodes each player owns; one that stands in both is shared, and has an optimizer in each."""
        trunks = frozenset[str]().union(*(self._walk(s) for s in self.scores))
        leads = {n for n in trunks if any(self.kind(d) in ("posterior", "decoder") for d in self.descendants([n]))}
        own = trunks - leads
        own |= {d for d in self.descendants(own) if self.kind(d) in ("fusion", "head")}
        generator = frozenset(self.nodes) - own
        discriminator = own | leads
        if self.given and "discriminator" in self.given:
            discriminator = match(self.given["discriminator"], self.nodes, "players.discriminator")
            generator = generator | (frozenset(self.nodes) - discriminator)
        if self.given and "generator" in self.given:
            generator = match(self.given["generator"], self.nodes, "players.generator")
            nobody = [n for n in self.nodes if n not in generator | discriminator and self.kind(n) != "prior"]
            if nobody:
                raise ConfigError(
                    "nodes belong to no player, so they would never learn",
                    where="players",
                    actual=", ".join(nobody),
                    fix="name them under one player; a stage's 'learn' freezes nodes for a while",
                )
        return {"discriminator": frozenset(discriminator), "generator": frozenset(generator)}

    @cached_property
    def shared(self) -> frozenset[str]:
        """Nodes of both players."""
        return self.players["generator"] & self.players["discriminator"]

    def through_posterior(self, score: str) -> bool:
        """Whether the real view of a score depends on a posterior (BiGAN, AAE): then the generator plays on it too."""
        return any(self.kind(n) == "posterior" for n in self.ancestors(score) - self.trunk(score))


def match(globs: Iterable[str], names: Iterable[str], where: str, kind: str = "node") -> frozenset[str]:
    """Expand globs over names, which are those of nodes of one ``kind``.

    Raises:
        ConfigError: a glob matches nothing.
    """
    known, found = list(names), set[str]()
    for glob in globs:
        hits = {n for n in known if fnmatchcase(n, glob)}
        if not hits:
            raise ConfigError(f"{glob!r} matches no {kind}", where=where, fix=nearest(glob, known))
        found |= hits
    return frozenset(found)


def wire(config: RunConfig, registry: Registry) -> Wiring:
    """Check all of a config that needs no torch: names, wiring, kinds of ports, cycles, globs, losses, stages.

    Raises:
        ConfigError, PluginError: the first thing that is wrong, with its place and a fix.
    """
    modalities = {
        m: resolve(registry, part.use, "modality", f"modality {m!r}").full_name for m, part in config.modalities.items()
    }
    nodes = {name: _node(name, node, registry, modalities) for name, node in config.nodes.items()}
    for node in nodes.values():
        _check_sources(node, nodes, modalities)
    for name, part in config.losses.items():
        resolve(registry, part.use, "loss", f"loss {name!r}")
        _check_loss(name, part.with_, nodes)
    if config.data is not None:
        resolve(registry, config.data.use, "dataset", "data")
    scores = tuple(dict.fromkeys(s for part in config.losses.values() for s in _references(part.with_.get("score"))))
    wiring = Wiring(modalities, nodes, scores, {p: tuple(globs) for p, globs in config.players.items()})
    _ = wiring.order, wiring.players
    _check_stages(config, wiring)
    return wiring


def resolve(registry: Registry, use: str, kind: str | None, where: str) -> Entry:
    """Find a component that is named at some place of a config.

    Raises:
        PluginError: as ``Registry.resolve``; it says where the name stands.
    """
    try:
        return registry.resolve(use, kind)
    except PluginError as error:
        raise PluginError(
            error.problem, where=where, expected=error.expected, actual=error.actual, fix=error.fix
        ) from error


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _node(name: str, config: NodeConfig, registry: Registry, modalities: Mapping[str, str]) -> Node:
    where = f"node {name!r}"
    if name in modalities:
        raise ConfigError(f"{name!r} is a modality and a node", where=where, fix="rename the node")
    entry = resolve(registry, config.use, None, where)
    if entry.kind not in TAKES:
        raise ConfigError(
            f"{_a(entry.kind)} is no node", where=where, expected="one of " + ", ".join(TAKES), actual=config.use
        )
    node = Node(
        name,
        entry.kind,
        entry.full_name,
        _ports(name, entry.kind, config),
        config.out,
        _tuple(config.of or []),
        config.modality_dropout or 0.0,
    )
    if node.kind == "decoder" and node.out is None:
        raise ConfigError("the decoder does not say which modality it makes", where=where, fix="add 'out'")
    if node.out is not None and node.kind not in ("decoder", "head"):
        raise ConfigError(
            f"only decoders and heads have an 'out', not {_a(node.kind)}", where=where, fix="remove 'out'"
        )
    if node.out is not None and node.out not in modalities:
        raise ConfigError(
            f"the {node.kind} makes the modality {node.out!r}, which the model does not have",
            where=f"{where}, port 'out'",
            fix=nearest(node.out, modalities),
        )
    if node.of and node.kind != "prior":
        raise ConfigError(f"only a prior is fitted to latents, not {_a(node.kind)}", where=where, fix="remove 'of'")
    if node.modality_dropout and node.kind not in ("fusion", "posterior", "head"):
        raise ConfigError(
            f"{_a(node.kind)} has no inputs to drop",
            where=f"{where}, 'modality_dropout'",
            expected="a fusion, a posterior or a head",
        )
    return node


def _check_sources(node: Node, nodes: Mapping[str, Node], modalities: Mapping[str, str]) -> None:
    for port, names in node.ports.items():
        for source in names:
            _check_source(f"node {node.name!r}, port {port!r}", source, TAKES[node.kind], nodes, modalities)
    for source in node.of:
        _check_source(f"node {node.name!r}, port 'of'", source, frozenset({"posterior"}), nodes, modalities)


def _check_source(
    where: str, source: str, takes: frozenset[str], nodes: Mapping[str, Node], modalities: Mapping[str, str]
) -> None:
    if source not in nodes and source not in modalities:
        raise ConfigError(f"there is no {source!r}", where=where, fix=nearest(source, [*nodes, *modalities]))
    kind = nodes[source].kind if source in nodes else "modality"
    if kind not in takes:
        fix = "put an encoder between them" if kind == "modality" else None
        raise ConfigError(
            f"{source!r} cannot be wired here",
            where=where,
            expected="one of: " + ", ".join(sorted(takes)),
            actual=_a(kind),
            fix=fix,
        )


def _references(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list | tuple) else ()


def _check_loss(name: str, values: Mapping[str, object], nodes: Mapping[str, Node]) -> None:
    for port, kinds in LOSS_PORTS.items():
        for reference in _references(values.get(port)):
            where = f"loss {name!r}, {port!r}"
            candidates = [n for n, node in nodes.items() if node.kind in kinds]
            hits = [n for n in nodes if n == reference or (port == "nodes" and fnmatchcase(n, reference))]
            if not hits:
                raise ConfigError(f"there is no node {reference!r}", where=where, fix=nearest(reference, candidates))
            if not set(hits) & set(candidates):
                raise ConfigError(
                    f"the node {reference!r} is no {'/'.join(sorted(kinds))}",
                    where=where,
                    actual=nodes[reference].kind if reference in nodes else None,
                    fix=nearest(reference, candidates),
                )


def _check_stages(config: RunConfig, wiring: Wiring) -> None:
    names = [stage.name for stage in config.stages]
    for stage in config.stages:
        where = f"stage {stage.name!r}"
        if names.count(stage.name) > 1:
            raise ConfigError("two stages have one name", where=where, fix="rename one")
        if (stage.epochs is None) == (stage.steps is None):
            raise ConfigError(
                "a stage has either epochs or steps", where=where, actual="both" if stage.epochs else "neither"
            )
        for loss in stage.losses:
            if loss not in config.losses:
                raise ConfigError(
                    f"the stage names the loss {loss!r}, which the config does not have",
                    where=where,
                    fix=nearest(loss, config.losses),
                )
            _check_relative(config, stage, loss)
        match(stage.learn, wiring.nodes, f"{where}, 'learn'")
        if stage.until is not None and stage.until.metric not in _metrics(config, stage):
            monitored = stage.until.metric.startswith("monitor/") and config.train.monitor is None
            raise ConfigError(
                f"the stage does not log {stage.until.metric!r}",
                where=f"{where}, 'until'",
                expected="one of its losses, or what train.monitor logs",
                fix="add train.monitor" if monitored else nearest(stage.until.metric, _metrics(config, stage)),
            )


def _check_relative(config: RunConfig, stage: StageConfig, loss: str) -> None:
    """Check that the loss which another's weight is relative to is there, and active with it."""
    other = config.losses[loss].relative_to
    if other is None:
        return
    if other not in config.losses or other == loss:
        others = [name for name in config.losses if name != loss]
        fix = nearest(other, others) if others else "leave 'relative_to' out: there is no other loss"
        raise ConfigError(f"there is no other loss {other!r}", where=f"loss {loss!r}", fix=fix)
    if other not in stage.losses:
        raise ConfigError(
            f"the loss {loss!r} is weighed relative to {other!r}, which the stage does not have",
            where=f"stage {stage.name!r}",
            actual=", ".join(stage.losses),
            fix=f"add {other!r} to its losses",
        )


def _metrics(config: RunConfig, stage: StageConfig) -> list[str]:
    """Names that a stage may end by: its losses, each player's, and those of the monitor."""
    watched = MONITORED if config.train.monitor is not None else ()
    return [
        *stage.losses,
        *(f"{player}/{loss}" for player in PLAYERS for loss in stage.losses),
        *(f"monitor/{name}" for name in watched),
    ]
