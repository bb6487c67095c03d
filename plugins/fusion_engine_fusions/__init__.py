"""Fusion strategies, the heads that read features, and supervised learning on them."""

from typing import TYPE_CHECKING

from fusion_engine import hookimpl

if TYPE_CHECKING:
    from fusion_engine import Registry


@hookimpl
def register_components(registry: "Registry") -> None:
    """Register everything."""
    registry.fusion("concat", "fusion_engine_fusions.concat:ConcatFusion")
    registry.fusion("self_attention", "fusion_engine_fusions.self_attention:SelfAttentionFusion")
    registry.head("score", "fusion_engine_fusions.score:ScoreHead")
    registry.head("classification", "fusion_engine_fusions.classification:ClassificationHead")
    registry.loss("cross_entropy", "fusion_engine_fusions.cross_entropy:CrossEntropy")
    registry.recipe("classifier", "fusion_engine_fusions.classifier:classifier")
