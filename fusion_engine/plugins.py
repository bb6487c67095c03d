"""Find plugins, load each one wholly or not at all, and call their hooks.

Pluggy's own loop over entry points is not used: it stops at the first plugin that fails, and silently drops a second
distribution that uses a taken name.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from fusion_engine import hooks
from fusion_engine.discovery import Candidate, find_plugins
from fusion_engine.entry import Entry, PluginInfo, check_name, why
from fusion_engine.errors import PluginError, nearest
from fusion_engine.registry import Registry

__all__ = ["Entry", "PluginInfo", "Plugins", "Registry", "load_plugins"]


def hook_manager() -> pluggy.PluginManager:
    """Make a manager that knows every hook and no plugin."""
    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    return manager


@dataclass
class Plugins:
    """The plugins of one engine: their components, their hooks, and what became of each."""

    registry: Registry = field(default_factory=Registry)
    manager: pluggy.PluginManager = field(default_factory=hook_manager)
    infos: list[PluginInfo] = field(default_factory=list)

    def info(self, name: str) -> PluginInfo:
        """Look a plugin up by its name.

        Raises:
            PluginError: there is none.
        """
        for info in self.infos:
            if info.name == name:
                return info
        raise PluginError(f"there is no plugin {name!r}: {nearest(name, [i.name for i in self.infos])}")

    def call(self, hook: str, *, failed: Callable[[PluginError], None] | None = None, **arguments: Any) -> list[Any]:
        """Call an optional hook in every plugin that has it, and list the results that are not None.

        Args:
            hook: its name.
            failed: told of each plugin that raised, and the others are called; by default the error is raised.
            arguments: of the hook.

        Raises:
            PluginError: one of them raised; it names plugin and hook.
        """
        known = _hook_names(self.manager)
        if hook not in known:
            raise PluginError(f"there is no hook {hook!r}: {nearest(hook, known)}")
        implementations = getattr(self.manager.hook, hook).get_hookimpls()
        names = list(dict.fromkeys(i.plugin_name for i in reversed(implementations)))
        results: list[Any] = []
        for name in names:
            try:
                results += self._call_one(name, hook, arguments)
            except PluginError as error:
                if failed is None:
                    raise
                failed(error)
        return results

    def _call_one(self, name: str, hook: str, arguments: dict[str, Any]) -> list[Any]:
        others = [plugin for other, plugin in self.manager.list_name_plugin() if other != name]
        try:
            results: list[Any] = self.manager.subset_hook_caller(hook, others)(**arguments)
        except Exception as error:
            raise PluginError(f"plugin {name!r} failed in its hook {hook!r}", actual=why(error)) from error
        return results

    def load(self, candidate: Candidate, twins: Sequence[Candidate] = ()) -> PluginInfo:
        """Load one plugin: all of it, or none with the reason recorded.

        Args:
            candidate: the plugin.
            twins: others of the same name; of such, none is loaded, or chance would say which.

        Raises:
            PluginError: it failed, and ``FUSION_ENGINE_STRICT=1``.
        """
        staged = Registry(candidate.name)
        try:
            self._admit(candidate, twins, staged)
        except Exception as error:  # whatever is wrong with one plugin, the others work
            if os.environ.get("FUSION_ENGINE_STRICT", "0") not in {"", "0"}:
                raise PluginError(
                    f"plugin {candidate.name!r} failed to load", where=str(candidate), actual=why(error)
                ) from error
            return self._record(candidate.info("failed", why(error), staged=tuple(staged.entries)))
        return self._record(candidate.info("loaded", components=tuple(staged.entries)))

    def block(self, candidate: Candidate) -> PluginInfo:
        """Leave a plugin out; nothing of it is imported."""
        return self._record(candidate.info("blocked", "the caller asked for that"))

    def _record(self, info: PluginInfo) -> PluginInfo:
        self.infos.append(info)
        if info.state != "loaded":
            self.registry.absent[info.name] = info
        return info

    def _admit(self, candidate: Candidate, twins: Sequence[Candidate], staged: Registry) -> None:
        """Take every step that can fail on scratch objects, then commit."""
        check_name(candidate.name, "plugin")
        if twins:
            several = " and ".join(sorted(map(str, [candidate, *twins])))
            raise PluginError(
                f"several plugins are called {candidate.name!r}", actual=several, fix="uninstall or rename one"
            )
        plugin = candidate.load()
        known = self.manager.get_name(plugin)
        if known is not None:
            raise PluginError(f"{candidate.origin} is loaded already, as plugin {known!r}")
        _stage(plugin, candidate.name, staged)
        self.registry.commit(staged)
        self.manager.register(plugin, candidate.name)


def _stage(plugin: Any, name: str, staged: Registry) -> None:
    """Check a plugin's hooks, then let it register into a scratch registry."""
    scratch = hook_manager()
    scratch.register(plugin, name)
    try:
        scratch.check_pending()
    except pluggy.PluginValidationError as error:
        known = _hook_names(hook_manager())
        unknown = sorted(h.name for h in scratch.get_hookcallers(plugin) or () if h.name not in known)
        told = "; ".join(f"there is no hook {hook!r}: {nearest(hook, known)}" for hook in unknown)
        raise PluginError(told) from error
    if not scratch.hook.register_components.get_hookimpls():
        fix = "mark it with @hookimpl" if "register_components" in dir(plugin) else None
        raise PluginError("has no register_components", fix=fix)
    scratch.hook.register_components(registry=staged)


def _hook_names(manager: pluggy.PluginManager) -> list[str]:
    return sorted(
        name
        for name, caller in vars(manager.hook).items()
        if isinstance(caller, pluggy.HookCaller) and caller.has_spec()
    )


def load_plugins(plugins: Sequence[str | Path | ModuleType] = (), block: Sequence[str] = ()) -> Plugins:
    """Load every installed plugin, and those given.

    Args:
        plugins: further ones: a ``.py`` file (which may be whole), a module's name, or a module.
        block: names of plugins to leave out.

    Raises:
        PluginError: a file is missing, or ``block`` names no plugin; any failure if ``FUSION_ENGINE_STRICT=1``.
    """
    candidates = find_plugins(plugins)
    names = {c.name for c in candidates}
    for name in block:
        if name not in names:
            raise PluginError(f"cannot block plugin {name!r}, there is none: {nearest(name, names)}")
    found = Plugins()
    for candidate in candidates:
        if candidate.name in block:
            found.block(candidate)
        else:
            found.load(candidate, [c for c in candidates if c.name == candidate.name and c is not candidate])
    return found
