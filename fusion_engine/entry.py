"""One registered component, and one plugin and what became of it."""

import importlib
import inspect
import os
import re
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pluggy

from fusion_engine.errors import FusionError, PluginError

Target: TypeAlias = str | Callable[..., Any]
"""A class or function, or where to import it from: ``"module:Name"``."""

NAME = r"[a-z][a-z0-9_]*"
_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_MACHINERY = tuple(f"{Path(str(f)).parent}{os.sep}" for f in (__file__, importlib.__file__, pluggy.__file__))


def check_name(name: str, what: str) -> None:
    """Refuse a name that could not stand in ``kind/plugin.name``.

    Raises:
        PluginError: it is not a lowercase word.
    """
    if not re.fullmatch(NAME, name):
        expected = "lowercase letters, digits and underscores, beginning with a letter, without a dot"
        raise PluginError(f"{name!r} cannot name a {what}", expected=expected, actual=name)


def why(error: Exception) -> str:
    """Say in one line what went wrong, and where in the plugin it did."""
    own = isinstance(error, FusionError)
    text = "; ".join(str(error).splitlines()) if own else f"{type(error).__name__}: {error}"
    line = textwrap.shorten(text, 800)
    if isinstance(error, SyntaxError):
        return f"{line} ({error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    plugins = [f for f in frames if not f.filename.startswith(("<frozen ", *_MACHINERY))]
    return f"{line} ({plugins[-1].filename}:{plugins[-1].lineno})" if plugins else line


def _is_missing(requirement: str) -> bool:
    name = re.match(r"[\w.-]+", requirement)
    try:
        distribution(name.group() if name else requirement)
    except PackageNotFoundError:
        return True
    return False


@dataclass(frozen=True)
class Entry:
    """One registered component.

    Args:
        kind: one of ``KINDS``.
        plugin: the plugin that registered it.
        name: its name within plugin and kind.
        target: the class or function, or ``"module:Name"``, imported by ``load``.
        aliases: further names within plugin and kind.
        requires: distributions that the target's module needs beyond the engine's own.

    Raises:
        PluginError: a name or target that cannot be one.
    """

    kind: str
    plugin: str
    name: str
    target: Target
    aliases: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.plugin, "plugin")
        for name in (self.name, *self.aliases):
            check_name(name, self.kind)
        if isinstance(self.target, str):
            good = _TARGET.fullmatch(self.target) is not None
        else:
            good = inspect.isclass(self.target) or inspect.isroutine(self.target)
        if not good:
            expected = "a class, a function or 'module:Name'"
            raise PluginError(
                "the target cannot be imported", where=self.full_name, expected=expected, actual=repr(self.target)
            )

    @property
    def full_name(self) -> str:
        """``kind/plugin.name``."""
        return f"{self.kind}/{self.plugin}.{self.name}"

    @property
    def labels(self) -> list[str]:
        """Every full name it answers to, its own first."""
        return [f"{self.kind}/{self.plugin}.{name}" for name in (self.name, *self.aliases)]

    @property
    def place(self) -> str:
        """Where the target is, in words."""
        return self.target if isinstance(self.target, str) else f"{self.target.__module__}:{self.target.__qualname__}"

    def load(self) -> Any:
        """Import the class or function.

        Raises:
            PluginError: the import fails, whatever the exception; it says what to install where that is known.
        """
        if not isinstance(self.target, str):
            return self.target
        module, name = self.target.split(":")
        try:
            return getattr(importlib.import_module(module), name)
        except Exception as error:  # a binary mismatch is not an ImportError
            missing = " ".join(repr(r) if re.search(r"[^\w.-]", r) else r for r in self.requires if _is_missing(r))
            raise PluginError(
                f"component {self.full_name!r} of plugin {self.plugin!r} cannot be loaded",
                where=self.target,
                actual=why(error),
                fix=f"pip install {missing}" if missing else None,
            ) from error


@dataclass(frozen=True)
class PluginInfo:
    """What became of one plugin.

    Args:
        name: the entry point's name, or the stem of its file or module.
        state: failed and blocked plugins have no components.
        origin: the entry point's value, the file or the module.
        distribution: what was installed, and its version; None for a file.
        reason: why it failed, in one line.
        components: full names of what it registered.
        staged: full names of what it had registered before it failed.
    """

    name: str
    state: Literal["loaded", "failed", "blocked"]
    origin: str
    distribution: str | None = None
    version: str | None = None
    reason: str | None = None
    components: tuple[str, ...] = ()
    staged: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Give plain containers, for JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    def __str__(self) -> str:
        return (
            f"plugin {self.name!r} {'failed to load' if self.state == 'failed' else f'is {self.state}'}: {self.reason}"
        )
