"""Every hook there is. A plugin implements ``register_components``; the rest is optional.

A plugin is a module with functions marked ``@hookimpl``, named by an entry point of the group
``fusion_engine.plugins``.
"""

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from fusion_engine.plugins import Registry

PROJECT = "fusion_engine"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_components(registry: "Registry") -> None:
    """Register components: ``registry.fusion("lowrank", "my_package.lowrank:LowRankFusion")``."""


@hookspec
def register_commands(cli: Any) -> None:
    """Add typer sub-commands to ``fusion-engine``."""


@hookspec
def modify_config(config: dict[str, Any], context: Any) -> None:
    """Edit the declarative config in place before it is validated; called when building, never when loading."""


@hookspec
def graph_built(graph: Any, context: Any) -> None:
    """Inspect, freeze (``requires_grad_(False)``) or attach to a graph that has passed its probes.

    Called when building, when ``fit`` builds anew for the shapes of the data, and when loading, before the weights are
    read.
    """


@hookspec
def configure_callbacks(model: Any, config: Any, context: Any) -> list[Any]:
    """Return training callbacks (see ``fusion_engine.training``)."""
    return []


@hookspec
def stage_started(stage: Any, model: Any, context: Any) -> None:
    """Act when a stage of training begins."""


@hookspec
def report_sections(run_directory: Any, context: Any) -> list[tuple[str, str]]:
    """Return extra sections of a run's ``report.html``: titles and their Markdown."""
    return []


@hookspec
def environment_checks() -> list[tuple[str, bool, str]]:
    """Return (what, whether it is fine, a remark) for ``fusion-engine doctor``."""
    return []
