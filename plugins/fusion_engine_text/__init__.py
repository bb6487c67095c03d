"""Texts: their modality, encoder and decoders."""

from typing import TYPE_CHECKING

from fusion_engine import hookimpl

if TYPE_CHECKING:
    from fusion_engine import Registry


@hookimpl
def register_components(registry: "Registry") -> None:
    """Register what this plugin offers."""
    registry.modality("text", "fusion_engine_text.modality:Text")
    registry.encoder("transformer", "fusion_engine_text.transformer_encoder:TransformerEncoder")
    registry.decoder("rnn", "fusion_engine_text.rnn_decoder:RNNDecoder")
    registry.decoder("transformer", "fusion_engine_text.transformer_decoder:TransformerDecoder")
