"""Digits as images, pen strokes, speech and phrases: a multimodal data set that needs no download."""

from typing import TYPE_CHECKING

from fusion_engine import hookimpl

if TYPE_CHECKING:
    from fusion_engine import Registry


@hookimpl
def register_components(registry: "Registry") -> None:
    """Register the data sets."""
    registry.dataset("digits", "fusion_engine_digits.digits:Digits")
    registry.dataset("stacked", "fusion_engine_digits.stacked:StackedDigits")
    registry.dataset("coloured", "fusion_engine_digits.coloured:ColouredDigits")
