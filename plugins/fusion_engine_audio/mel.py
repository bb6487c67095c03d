"""Sounds as log-mel spectrograms, and heard again by inverting them."""

import math
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusion_engine import Media, Noise, Signal, SpectrogramModality
from fusion_engine_audio.augmentations import frequency_mask, spectrogram_gain, spectrogram_shift, time_mask
from fusion_engine_audio.media import audible, picture
from fusion_engine_audio.sounds import DEFAULT_RATE, Clips, learn_clips
from fusion_engine_audio.spectra import Spectra, spectra_of

_Positive = Annotated[int, Field(ge=1)]
_SILENT = 1e-9
_AUGMENTATIONS = {"shift": spectrogram_shift, "time_mask": time_mask, "frequency_mask": frequency_mask}
_PLACEHOLDER = {"seconds": 0.5, "centre": -5.4, "deviation": 1.7}


class Mel(SpectrogramModality):
    """Log-mel spectrograms [t f] of sounds of one duration.

        data = (log(mel + eps) - centre) / deviation,   eps = 10^(floor / 20)

    A raw sample is an array or tensor [n], [n channels] or [channels n], of floats in [-1, 1] or PCM (uint8, int8,
    int16, int32), a tuple (array, samples per second), or the path of a WAV, FLAC or OGG file. Channels are averaged,
    other rates resampled; an array without a rate has the modality's. A shorter sound is followed by silence, a longer
    one refused.

    ``restore`` finds a sound of such a spectrogram, float32 [n]: magnitudes and phases are estimated, so it sounds like
    the original without being it. With ``normalise`` it has peak 1, however loud the original was.
    What is None is learned by ``fit``, or follows from the rest; until then a sound lasts half a second.

    Args:
        sample_rate: samples per second; learned as the rate of most files or tuples, else 8000.
        seconds: the duration; learned as that of the longest sound.
        bands: f, the number of frequency bands.
        window: samples of the Fourier transform; None is 32 ms, rounded to a power of two.
        hop: samples from one frame to the next; None is 7/16 of the window.
        low: where the lowest band begins, in Hz.
        high: where the highest band ends, in Hz; None is half of the sample rate.
        normalise: scale each sound to peak 1 first, silence excepted.
        floor: of the spectrogram, in dB of a full-scale tone; what is quieter looks like silence.
        centre: the mean of log(mel + eps) over all frames and bands.
        deviation: its standard deviation.

    Raises:
        ConfigError: frequencies, bands, window and hop do not go together; the message says which.
    """

    encoder: ClassVar[str] = "encoder/audio.mel_cnn"
    decoder: ClassVar[str] = "decoder/audio.mel"
    augmentations: ClassVar[tuple[str, ...]] = ("gain", *_AUGMENTATIONS)

    def __init__(
        self,
        *,
        sample_rate: _Positive | None = None,
        seconds: Annotated[float, Field(gt=0)] | None = None,
        bands: _Positive = 40,
        window: Annotated[int, Field(ge=16)] | None = None,
        hop: _Positive | None = None,
        low: Annotated[float, Field(ge=0)] = 0.0,
        high: Annotated[float, Field(gt=0)] | None = None,
        normalise: bool = True,
        floor: Annotated[float, Field(lt=0, ge=-160)] = -60.0,
        centre: float | None = None,
        deviation: Annotated[float, Field(gt=0)] | None = None,
    ) -> None:
        self._given: dict[str, Any] = {
            "sample_rate": sample_rate,
            "seconds": seconds,
            "centre": centre,
            "deviation": deviation,
        }
        self._transform: dict[str, Any] = {
            "bands": bands,
            "window": window,
            "hop": hop,
            "low": low,
            "high": high,
            "floor": floor,
        }
        self.sample_rate, self.bands = sample_rate or DEFAULT_RATE, bands
        self.clips = Clips(self.sample_rate, _PLACEHOLDER["seconds"] if seconds is None else seconds)
        self.spectra = spectra_of(self.sample_rate, **self._transform)
        self.frames = self.spectra.frames(self.clips.samples)
        self.normalise = normalise
        self.centre = _PLACEHOLDER["centre"] if centre is None else centre
        self.deviation = _PLACEHOLDER["deviation"] if deviation is None else deviation

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn rate, duration, centre and deviation; what the config already sets is kept.

        Raises:
            DataError: there are no sounds, one cannot be read, or one is longer than ``seconds``.
        """
        raws = list(samples)
        clips = learn_clips(raws, self._given["sample_rate"], self._given["seconds"])
        spectra = spectra_of(clips.sample_rate, **self._transform)
        moments = torch.zeros(3, dtype=torch.float64)
        for raw in raws:
            x = self._log_mel(raw, clips, spectra).double()
            moments += torch.stack([torch.tensor(x.numel()), x.sum(), x.square().sum()])
        count, total, squares = moments.tolist()
        centre = total / count
        deviation = math.sqrt(max(squares / count - centre**2, 0.0))
        learned = {
            "sample_rate": clips.sample_rate,
            "seconds": clips.seconds,
            "centre": centre,
            "deviation": deviation if deviation > 1e-6 else 1.0,
        }
        return learned | {key: value for key, value in self._given.items() if value is not None}

    def prepare(self, raw: Any) -> Signal:
        """Read one sound and compute its scaled spectrogram, float32 [t f].

        Raises:
            DataError: it is no sound, or a longer one.
        """
        return Signal((self._log_mel(raw, self.clips, self.spectra) - self.centre) / self.deviation)

    def restore(self, signal: Signal) -> list[np.ndarray]:
        """Find a sound for each row, the same at each call: a float32 array [n]."""
        sounds = self.spectra.sound(self._unscaled(signal), self.clips.samples)
        if self.normalise:
            quietest = self.spectra.eps  # what is quieter is the floor: it is not made louder
            sounds = sounds / sounds.abs().amax(-1, keepdim=True).clamp(min=quietest)
        return list(sounds.numpy())

    def example(self, b: int) -> Signal:
        """Make normal noise [b t f], the same at each call."""
        return Signal(torch.randn(b, self.frames, self.bands, generator=torch.Generator().manual_seed(0)))

    def render(self, signal: Signal) -> list[Media]:
        """Make a WAV file of each row, with a picture of its spectrogram: the brighter, the louder."""
        low, levels = math.log(self.spectra.eps), self._unscaled(signal).numpy()
        return [
            audible(sound, self.sample_rate, picture(level, low, float(level.max())))
            for sound, level in zip(self.restore(signal), levels, strict=True)
        ]

    def augment(self, signal: Signal, name: str, noise: Noise) -> Signal:
        """Make louder or quieter, shift in time, or mask frames or bands (SpecAugment, arXiv:1904.08779)."""
        if name == "gain":
            return Signal(spectrogram_gain(signal.data, noise, self.deviation))
        if name not in _AUGMENTATIONS:
            return super().augment(signal, name, noise)
        return Signal(_AUGMENTATIONS[name](signal.data, noise))

    def _log_mel(self, raw: Any, clips: Clips, spectra: Spectra) -> Float[Tensor, "t f"]:
        sound = clips.read(raw)
        peak = float(sound.abs().max())
        return spectra.log_mel(sound / peak if self.normalise and peak > _SILENT else sound)

    def _unscaled(self, signal: Signal) -> Float[Tensor, "b t f"]:
        raw: Tensor = signal.data.detach().cpu().float() * self.deviation + self.centre
        return raw
