"""Gated multimodal units, as a plugin. Nothing heavy is imported here: the class is named, not loaded."""

from typing import TYPE_CHECKING

from fusion_engine import hookimpl

if TYPE_CHECKING:
    from fusion_engine import Registry


@hookimpl
def register_components(registry: "Registry") -> None:
    """Register the one component, ``fusion/gated.unit``."""
    registry.fusion("unit", "gated_fusion.gated:GatedFusion")
