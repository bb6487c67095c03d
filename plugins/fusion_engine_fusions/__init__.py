"""Fusion strategies, the heads that read features, and supervised learning on them."""

from typing import TYPE_CHECKING

from fusion_engine import hookimpl

if TYPE_CHECKING:
    from fusion_engine import Registry


@hookimpl
def register_components(registry: "Registry") -> None:
    """Register everything."""
    registry.fusion("concat", "fusion_engine_fusions.concat:ConcatFusion")
    registry.fusion("sum", "fusion_engine_fusions.additive:SumFusion")
    registry.fusion("mean", "fusion_engine_fusions.additive:MeanFusion")
    registry.fusion("gated", "fusion_engine_fusions.gated:GatedFusion")
    registry.fusion("attention_sum", "fusion_engine_fusions.attention_sum:AttentionSumFusion")
    registry.fusion("film", "fusion_engine_fusions.film:FilmFusion")
    registry.fusion("multiplicative", "fusion_engine_fusions.multiplicative:MultiplicativeFusion")
    registry.fusion("deep_sets", "fusion_engine_fusions.deep_sets:DeepSetsFusion")
    registry.fusion("mixture_of_experts", "fusion_engine_fusions.mixture_of_experts:MixtureOfExpertsFusion")
    registry.fusion("self_attention", "fusion_engine_fusions.self_attention:SelfAttentionFusion")
    registry.fusion("crossmodal", "fusion_engine_fusions.crossmodal:CrossmodalFusion", aliases=("mult",))
    registry.fusion("bottleneck", "fusion_engine_fusions.bottleneck:BottleneckFusion")
    registry.fusion("perceiver", "fusion_engine_fusions.perceiver:PerceiverFusion")
    registry.fusion("tensor", "fusion_engine_fusions.tensor:TensorFusion")
    registry.fusion("low_rank", "fusion_engine_fusions.low_rank:LowRankFusion")
    registry.fusion("mlb", "fusion_engine_fusions.mlb:MLBFusion")
    registry.fusion("mfb", "fusion_engine_fusions.mfb:MFBFusion")
    registry.fusion("mfh", "fusion_engine_fusions.mfh:MFHFusion")
    registry.fusion("mutan", "fusion_engine_fusions.mutan:MUTANFusion")
    registry.fusion("block", "fusion_engine_fusions.block:BlockFusion")
    registry.fusion("compact_bilinear", "fusion_engine_fusions.compact_bilinear:CompactBilinearFusion")
    registry.head("score", "fusion_engine_fusions.score:ScoreHead")
    registry.head("classification", "fusion_engine_fusions.classification:ClassificationHead")
    registry.loss("cross_entropy", "fusion_engine_fusions.cross_entropy:CrossEntropy")
    registry.recipe("classifier", "fusion_engine_fusions.classifier:classifier")
