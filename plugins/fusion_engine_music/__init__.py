"""Melodies: a modality of notes, and a data set of melodies made by rule."""

from typing import TYPE_CHECKING

from fusion_engine import hookimpl

if TYPE_CHECKING:
    from fusion_engine import Registry


@hookimpl
def register_components(registry: "Registry") -> None:
    """Register the modality and the data set."""
    registry.modality("melody", "fusion_engine_music.melody:Melody")
    registry.dataset("melodies", "fusion_engine_music.melodies:Melodies")
