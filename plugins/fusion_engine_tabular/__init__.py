"""Categories, such as labels: their modality, encoder and decoder."""

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
