"""Sequences of vectors, such as pen strokes or sensor readings: their modality, encoders and decoders."""

from typing import TYPE_CHECKING

from fusion_engine import hookimpl

if TYPE_CHECKING:
    from fusion_engine import Registry


@hookimpl
def register_components(registry: "Registry") -> None:
    """Register what this plugin offers."""
    registry.modality("sequence", "fusion_engine_sequence.modality:Series")
    registry.modality("strokes", "fusion_engine_sequence.strokes:Strokes")
    registry.encoder("conv", "fusion_engine_sequence.conv_encoder:ConvEncoder")
    registry.encoder("rnn", "fusion_engine_sequence.rnn_encoder:RNNEncoder")
    registry.encoder("transformer", "fusion_engine_sequence.transformer_encoder:TransformerEncoder")
    registry.decoder("conv", "fusion_engine_sequence.conv_decoder:ConvDecoder")
    registry.decoder("rnn", "fusion_engine_sequence.rnn_decoder:RNNDecoder")
    registry.decoder("recurrent_generator", "fusion_engine_sequence.recurrent_generator:RecurrentGenerator")
    registry.loss("length", "fusion_engine_sequence.length:Length")
