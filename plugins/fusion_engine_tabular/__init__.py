"""What tables hold: categories such as labels, sets of tags, numbers; their modalities, encoders and decoders."""

from typing import TYPE_CHECKING

from fusion_engine import hookimpl

if TYPE_CHECKING:
    from fusion_engine import Registry


@hookimpl
def register_components(registry: "Registry") -> None:
    """Register what this plugin offers."""
    registry.modality("category", "fusion_engine_tabular.modality:Category")
    registry.encoder("embedding", "fusion_engine_tabular.embedding:EmbeddingEncoder")
    registry.decoder("logits", "fusion_engine_tabular.logits:LogitsDecoder")
    registry.modality("number", "fusion_engine_tabular.number:Number")
    registry.encoder("numbers", "fusion_engine_tabular.number_networks:NumbersEncoder")
    registry.decoder("numbers", "fusion_engine_tabular.number_networks:NumbersDecoder")
    registry.modality("tags", "fusion_engine_tabular.tags:Tags")
    registry.encoder("tags", "fusion_engine_tabular.tag_networks:TagsEncoder")
    registry.decoder("tags", "fusion_engine_tabular.tag_networks:TagsDecoder")
    registry.encoder("mlp", "fusion_engine_tabular.mlp:MLPEncoder")
    registry.decoder("mlp", "fusion_engine_tabular.mlp:MLPDecoder")
    registry.decoder("generator", "fusion_engine_tabular.mlp:MLPGenerator")
    registry.dataset("gaussians", "fusion_engine_tabular.gaussians:Gaussians")
