"""What plugins register, and how a component is found by its name.

A full name is ``kind/plugin.name``: ``modality/audio.mel`` is the component mel of the plugin audio.
"""

import re
from collections.abc import Iterable, Sequence

from fusion_engine.entry import NAME, Entry, PluginInfo, Target
from fusion_engine.errors import PluginError, nearest
from fusion_engine.kinds import KINDS

_USE = re.compile(rf"(?P<kind>[^/]+)/(?:(?P<plugin>{NAME})\.)?(?P<name>{NAME})")


class Registry:
    """The components of one plugin while it registers them, or of all plugins.

    Args:
        plugin: whose components these are; it is put in front of each name.
    """

    def __init__(self, plugin: str = "") -> None:
        self.plugin = plugin
        self.absent: dict[str, PluginInfo] = {}
        self._labels: dict[str, Entry] = {}

    @property
    def entries(self) -> dict[str, Entry]:
        """Every component by its full name, sorted."""
        return {label: e for label, e in sorted(self._labels.items()) if label == e.full_name}

    def of(self, kind: str) -> list[Entry]:
        """Every component of one kind."""
        return [entry for entry in self.entries.values() if entry.kind == kind]

    def add(
        self, kind: str, name: str, target: Target, aliases: Sequence[str] = (), requires: Sequence[str] = ()
    ) -> None:
        """Register a component; the methods below are the same, one a kind.

        Raises:
            PluginError: the name is taken, or name or target cannot be one.
        """
        if kind not in KINDS:
            raise PluginError(f"{kind!r} is no kind of component", fix=nearest(kind, KINDS))
        if isinstance(aliases, str) or isinstance(requires, str):
            raise PluginError("aliases and requires are tuples", where=f"{kind}/{self.plugin}.{name}", actual="a str")
        self._put(Entry(kind, self.plugin, name, target, tuple(aliases), tuple(requires)))

    def _put(self, entry: Entry) -> None:
        for i, label in enumerate(entry.labels):
            taken = entry if label in entry.labels[:i] else self._labels.get(label)
            if taken is not None:
                both = f"{taken.full_name} ({taken.place}) and {entry.full_name} ({entry.place})"
                raise PluginError(f"{label!r} is registered twice", actual=both, fix="rename one, name or alias")
        self._labels.update(dict.fromkeys(entry.labels, entry))

    def commit(self, staged: "Registry") -> None:
        """Take over everything another registry holds.

        Raises:
            PluginError: a name is taken; then nothing is taken over.
        """
        twice = self._labels.keys() & staged._labels.keys()
        if twice:
            raise PluginError(f"registered twice: {', '.join(sorted(twice))}")
        self._labels.update(staged._labels)

    def resolve(self, use: str, kind: str | None = None) -> Entry:
        """Find a component by ``kind/plugin.name``, or by ``kind/name`` where one plugin alone offers it.

        Args:
            use: the name; an alias will do. Where ``kind`` is given its ``kind/`` may be left out.
            kind: the only kind that will do.

        Raises:
            PluginError: unknown (near names are listed, and plugins that are absent with the reason), of another
                kind, or offered by several plugins.
        """
        kind, plugin, name = _parse(use, kind)
        if plugin:
            found = [e for label, e in self._labels.items() if label == f"{kind}/{plugin}.{name}"]
        else:
            found = [
                e for label, e in self._labels.items() if label.startswith(f"{kind}/") and label.endswith(f".{name}")
            ]
        if len(found) == 1:
            return found[0]
        if not found:
            raise self._unknown(kind, plugin, name)
        offers = ", ".join(sorted(e.full_name for e in found))
        raise PluginError(
            f"{kind}/{name} is offered by several plugins", actual=offers, fix="write the full name of one"
        )

    def _unknown(self, kind: str, plugin: str | None, name: str) -> PluginError:
        """Make the error about a name that nothing answers to."""
        use = f"{plugin}.{name}" if plugin else name
        named = self.absent.get(plugin) if plugin else None
        told = [named] if named else list(self._missed(kind, name))
        if told:
            return PluginError(f"{kind}/{use} is absent: {told[0]}", actual="; ".join(map(str, told[1:])))
        labels = [label.removeprefix(f"{kind}/") for label in self._labels if label.startswith(f"{kind}/")]
        known = labels if plugin else [label.partition(".")[2] for label in labels]
        failed = "; ".join(str(info) for info in self.absent.values() if info.state == "failed")
        return PluginError(f"there is no {kind} {use!r}: {nearest(use, known)}", actual=failed)

    def _missed(self, kind: str, name: str) -> Iterable[PluginInfo]:
        """Find absent plugins that would have offered it."""
        for info in self.absent.values():
            if any(label.startswith(f"{kind}/") and label.endswith(f".{name}") for label in info.staged):
                yield info

    def modality(self, name: str, target: Target, *, aliases: Sequence[str] = (), requires: Sequence[str] = ()) -> None:
        """Register a modality."""
        self.add("modality", name, target, aliases, requires)

    def encoder(self, name: str, target: Target, *, aliases: Sequence[str] = (), requires: Sequence[str] = ()) -> None:
        """Register an encoder."""
        self.add("encoder", name, target, aliases, requires)

    def fusion(self, name: str, target: Target, *, aliases: Sequence[str] = (), requires: Sequence[str] = ()) -> None:
        """Register a fusion strategy."""
        self.add("fusion", name, target, aliases, requires)

    def posterior(
        self, name: str, target: Target, *, aliases: Sequence[str] = (), requires: Sequence[str] = ()
    ) -> None:
        """Register a posterior."""
        self.add("posterior", name, target, aliases, requires)

    def prior(self, name: str, target: Target, *, aliases: Sequence[str] = (), requires: Sequence[str] = ()) -> None:
        """Register a prior."""
        self.add("prior", name, target, aliases, requires)

    def decoder(self, name: str, target: Target, *, aliases: Sequence[str] = (), requires: Sequence[str] = ()) -> None:
        """Register a decoder."""
        self.add("decoder", name, target, aliases, requires)

    def head(self, name: str, target: Target, *, aliases: Sequence[str] = (), requires: Sequence[str] = ()) -> None:
        """Register a head."""
        self.add("head", name, target, aliases, requires)

    def loss(self, name: str, target: Target, *, aliases: Sequence[str] = (), requires: Sequence[str] = ()) -> None:
        """Register a loss."""
        self.add("loss", name, target, aliases, requires)

    def recipe(self, name: str, target: Target, *, aliases: Sequence[str] = (), requires: Sequence[str] = ()) -> None:
        """Register a recipe."""
        self.add("recipe", name, target, aliases, requires)

    def ensemble(self, name: str, target: Target, *, aliases: Sequence[str] = (), requires: Sequence[str] = ()) -> None:
        """Register an ensemble."""
        self.add("ensemble", name, target, aliases, requires)

    def metric(self, name: str, target: Target, *, aliases: Sequence[str] = (), requires: Sequence[str] = ()) -> None:
        """Register a metric."""
        self.add("metric", name, target, aliases, requires)

    def dataset(self, name: str, target: Target, *, aliases: Sequence[str] = (), requires: Sequence[str] = ()) -> None:
        """Register a data set."""
        self.add("dataset", name, target, aliases, requires)


def _parse(use: str, kind: str | None) -> tuple[str, str | None, str]:
    """Split a component's name into kind, plugin (None if left out) and name."""
    match = _USE.fullmatch(use if kind is None or "/" in use else f"{kind}/{use}")
    if match is None:
        raise PluginError(f"{use!r} is not a component's name", expected="kind/plugin.name or kind/name")
    if match["kind"] not in KINDS:
        raise PluginError(f"{use!r}: there is no kind {match['kind']!r}: {nearest(match['kind'], KINDS)}")
    if kind is not None and match["kind"] != kind:
        raise PluginError(f"{use!r} is of the wrong kind", expected=kind, actual=match["kind"])
    return match["kind"], match["plugin"], match["name"]
