"""Losses that bring the vectors of several modalities into one space, and retrieval in it."""

from typing import TYPE_CHECKING

from fusion_engine import hookimpl

if TYPE_CHECKING:
    from fusion_engine import Registry


@hookimpl
def register_components(registry: "Registry") -> None:
    """Register what this plugin offers."""
    registry.fusion("projection", "fusion_engine_alignment.projection:ProjectionFusion")
    registry.loss("clip", "fusion_engine_alignment.clip:CLIPLoss")
    registry.loss("siglip", "fusion_engine_alignment.siglip:SigLIPLoss")
    registry.loss("deep_cca", "fusion_engine_alignment.deep_cca:DeepCCALoss")
    registry.recipe("contrastive", "fusion_engine_alignment.contrastive:contrastive")
