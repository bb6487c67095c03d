"""Sounds as waveforms: the samples themselves, scaled to unit deviation."""

import math
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusion_engine import Media, Noise, Signal, WaveformModality
from fusion_engine_audio.augmentations import gain, shift
from fusion_engine_audio.media import audible, curve
from fusion_engine_audio.sounds import DEFAULT_RATE, Clips, learn_clips

_PLACEHOLDER = {"seconds": 0.5, "deviation": 0.1}


class Waveform(WaveformModality):
    """Sounds [t] of one duration and rate.

        data = sound / deviation

    Raw samples are what ``modality/audio.mel`` takes: arrays of floats in [-1, 1] or of PCM, tuples (array, samples per
    second), paths of WAV, FLAC or OGG files. Channels are averaged, other rates resampled; a shorter sound is followed
    by silence, a longer one refused. ``restore`` gives float32 arrays [t], full scale 1.
    What is None is learned by ``fit``; until then a sound lasts half a second.

    Args:
        sample_rate: samples per second; learned as the rate of most files or tuples, else 8000.
        seconds: the duration; learned as that of the longest sound.
        deviation: the root mean square of all samples of all sounds, the silence behind them included.
    """

    encoder: ClassVar[str] = "encoder/audio.wave_cnn"
    decoder: ClassVar[str] = "decoder/audio.wave_cnn"
    augmentations: ClassVar[tuple[str, ...]] = ("gain", "shift")

    def __init__(
        self,
        *,
        sample_rate: Annotated[int, Field(ge=1)] | None = None,
        seconds: Annotated[float, Field(gt=0)] | None = None,
        deviation: Annotated[float, Field(gt=0)] | None = None,
    ) -> None:
        self._given: dict[str, Any] = {"sample_rate": sample_rate, "seconds": seconds, "deviation": deviation}
        self.sample_rate = sample_rate or DEFAULT_RATE
        self.clips = Clips(self.sample_rate, _PLACEHOLDER["seconds"] if seconds is None else seconds)
        self.samples = self.clips.samples
        self.deviation = _PLACEHOLDER["deviation"] if deviation is None else deviation

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn rate, duration and deviation; what the config already sets is kept.

        Raises:
            DataError: there are no sounds, one cannot be read, or one is longer than ``seconds``.
        """
        raws = list(samples)
        clips = learn_clips(raws, self._given["sample_rate"], self._given["seconds"])
        squares = sum(float(clips.read(raw).double().square().mean()) for raw in raws)
        deviation = math.sqrt(squares / len(raws))
        learned = {
            "sample_rate": clips.sample_rate,
            "seconds": clips.seconds,
            "deviation": deviation if deviation > 1e-6 else 1.0,
        }
        return learned | {key: value for key, value in self._given.items() if value is not None}

    def prepare(self, raw: Any) -> Signal:
        """Read and scale one sound, float32 [t].

        Raises:
            DataError: it is no sound, or a longer one.
        """
        return Signal(self.clips.read(raw) / self.deviation)

    def restore(self, signal: Signal) -> list[np.ndarray]:
        """Scale back: a float32 array [t] a row."""
        return list(self._unscaled(signal).numpy())

    def example(self, b: int) -> Signal:
        """Make normal noise [b t], the same at each call."""
        return Signal(torch.randn(b, self.samples, generator=torch.Generator().manual_seed(0)))

    def render(self, signal: Signal) -> list[Media]:
        """Make a WAV file of each row, with a picture of the curve; what exceeds full scale is made quieter."""
        return [audible(sound, self.sample_rate, curve(sound)) for sound in self.restore(signal)]

    def augment(self, signal: Signal, name: str, noise: Noise) -> Signal:
        """Make louder or quieter, or shift in time with silence behind."""
        if name not in self.augmentations:
            return super().augment(signal, name, noise)
        return Signal(gain(signal.data, noise) if name == "gain" else shift(signal.data, noise))

    def _unscaled(self, signal: Signal) -> Float[Tensor, "b t"]:
        raw: Tensor = signal.data.detach().cpu().float() * self.deviation
        return raw
