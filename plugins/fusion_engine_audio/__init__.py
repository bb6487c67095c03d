"""Sound: spectrograms and waveforms, their encoders and decoders."""

from typing import TYPE_CHECKING

from fusion_engine import hookimpl

if TYPE_CHECKING:
    from fusion_engine import Registry


@hookimpl
def register_components(registry: "Registry") -> None:
    """Register what this plugin offers."""
    registry.modality("mel", "fusion_engine_audio.mel:Mel")
    registry.modality("waveform", "fusion_engine_audio.waveform:Waveform")
    registry.encoder("mel_cnn", "fusion_engine_audio.mel_encoder:MelCNN")
    registry.encoder("wave_cnn", "fusion_engine_audio.wave_encoder:WaveCNN")
    registry.decoder("mel", "fusion_engine_audio.mel_decoder:MelDecoder")
    registry.decoder("wave_cnn", "fusion_engine_audio.wave_decoder:WaveDecoder")
