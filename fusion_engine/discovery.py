"""Where plugins come from: entry points of installed distributions, files, modules. Nothing of a plugin runs here."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from fusion_engine.entry import PluginInfo
from fusion_engine.errors import PluginError

GROUP = "fusion_engine.plugins"


@dataclass(frozen=True)
class Candidate:
    """A plugin that was found and is not imported yet.

    Args:
        name: the entry point's name, or the stem of the file or module.
        origin: the entry point's value, the file or the module.
        load: imports it.
        distribution: what was installed, and its version; None for a file or module.
    """

    name: str
    origin: str
    load: Callable[[], Any]
    distribution: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        return f"{self.origin} of distribution {self.distribution} {self.version}" if self.distribution else self.origin

    def info(
        self,
        state: Literal["loaded", "failed", "blocked"],
        reason: str | None = None,
        *,
        components: tuple[str, ...] = (),
        staged: tuple[str, ...] = (),
    ) -> PluginInfo:
        """Say what became of it."""
        return PluginInfo(self.name, state, self.origin, self.distribution, self.version, reason, components, staged)


def find_plugins(given: Sequence[str | Path | ModuleType] = ()) -> list[Candidate]:
    """List installed plugins by name, then the given ones; one that is there already is not listed again.

    Raises:
        PluginError: a given file does not exist.
    """
    installed = [_of_entry_point(entry_point) for entry_point in entry_points(group=GROUP)]
    installed.sort(key=lambda c: (c.name, c.distribution or "", c.origin))
    found: dict[tuple[str, str | None], Candidate] = {(f"{c.name}={c.origin}", c.distribution): c for c in installed}
    origins = {c.origin for c in installed}
    for candidate in map(_of_given, given):
        if candidate.origin not in origins:
            found[candidate.origin, None] = candidate
    return list(found.values())


def _of_entry_point(entry_point: EntryPoint) -> Candidate:
    distribution = entry_point.dist
    name, version = (distribution.name, distribution.version) if distribution else (None, None)
    return Candidate(entry_point.name, entry_point.value, entry_point.load, name, version)


def _of_given(given: str | Path | ModuleType) -> Candidate:
    if isinstance(given, ModuleType):
        return Candidate(given.__name__.rpartition(".")[2], given.__name__, lambda: given)
    if isinstance(given, str) and not given.endswith(".py") and "/" not in given and "\\" not in given:
        return Candidate(given.rpartition(".")[2], given, partial(import_module, given))
    path = Path(given).resolve()
    if path.suffix != ".py" or not path.is_file():
        raise PluginError(
            f"there is no plugin file {str(given)!r}", expected="a .py file, or a module's name", actual=str(path)
        )
    return Candidate(path.stem, str(path), partial(load_file, path))


def load_file(path: Path) -> ModuleType:
    """Run a file as a module of its own.

    The module's name holds a digest of path and content, and it stays in ``sys.modules`` so that its classes can be
    found again: the same file is run once, an edited one anew.
    """
    source = path.read_bytes()
    digest = blake2b(str(path).encode() + b"\0" + source, digest_size=8).hexdigest()
    name = f"fusion_engine_file_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        exec(compile(source, path, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module
