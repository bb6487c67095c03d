"""Images: their modality, encoders and decoder."""

from typing import TYPE_CHECKING

from fusion_engine import hookimpl

if TYPE_CHECKING:
    from fusion_engine import Registry


@hookimpl
def register_components(registry: "Registry") -> None:
    """Register what this plugin offers."""
    registry.modality("image", "fusion_engine_image.modality:Image")
    registry.encoder("conv", "fusion_engine_image.conv_encoder:ConvEncoder")
    registry.encoder("timm", "fusion_engine_image.timm_encoder:TimmEncoder", requires=("timm",))
    registry.decoder("conv", "fusion_engine_image.conv_decoder:ConvDecoder")
    registry.encoder("mlp", "fusion_engine_image.mlp:MLPEncoder")
    registry.decoder("mlp", "fusion_engine_image.mlp:MLPDecoder")
    registry.encoder("dcgan", "fusion_engine_image.dcgan:DCGANEncoder")
    registry.decoder("dcgan", "fusion_engine_image.dcgan:DCGANDecoder")
