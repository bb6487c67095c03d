"""Log-mel spectrograms, and sounds made of them again."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from einops import rearrange
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn.functional import pad

from fusion_engine import ConfigError
from fusion_engine_audio.mel_scale import mel_filters

_UPDATES = 30
_ITERATIONS = 32
_MOMENTUM = 0.99
_TINY = 1e-10
_LOUDEST = math.log(1e3)
"""Far beyond what a sound of full scale has: what an untrained generator says is heard, not overflowed."""


@dataclass(frozen=True)
class Spectra:
    """Turn sounds into mel spectrograms and back.

        mel = |STFT(sound)| filters,   log_mel = log(mel + eps),   eps = 10^(floor / 20)

    The STFT has a Hann window and is scaled so that a tone of amplitude 1 has magnitude 1; frame i is centred on sample
    i hop, beyond both ends is silence. Filters are triangles of height 1, evenly spaced on Slaney's mel scale.

    Args:
        sample_rate: samples per second.
        window: samples of a window.
        hop: samples from one frame to the next.
        bands: f, the number of filters.
        low: where the first filter begins, in Hz.
        high: where the last filter ends, in Hz.
        floor: what is added to every magnitude, in dB of a full-scale tone.

    Raises:
        ConfigError: the frequencies or the hop are out of range, or a band lies between two frequencies of the STFT.
    """

    sample_rate: int
    window: int
    hop: int
    bands: int
    low: float
    high: float
    floor: float

    def __post_init__(self) -> None:
        _check(
            self.low < self.high <= self.sample_rate / 2,
            "`low` and `high` are no range of frequencies below half of the sample rate",
            f"low < high <= {self.sample_rate / 2:g} Hz",
            f"low {self.low:g}, high {self.high:g}",
            "set `sample_rate` too, where it is learned from the data otherwise",
        )
        _check(
            self.hop <= self.window // 2,
            "windows must overlap by half at least, or no sound can be made of them",
            f"a hop of at most {self.window // 2} samples",
            f"{self.hop}",
        )
        narrow = int((self.filters.amax(0) == 0).sum())
        _check(
            narrow == 0,
            "the bands are narrower than the frequencies of the STFT lie apart",
            f"at least one frequency a band; they are {self.sample_rate / self.window:.4g} Hz apart",
            f"{narrow} of {self.bands} bands without one",
            "set fewer `bands` or a longer `window`",
        )

    @cached_property
    def eps(self) -> float:
        """What is added before the logarithm."""
        return float(10 ** (self.floor / 20))

    @cached_property
    def filters(self) -> Float[Tensor, "k f"]:
        """The mel filters, one a column, over the k frequencies of the STFT."""
        return mel_filters(self.window // 2 + 1, self.sample_rate, self.bands, self.low, self.high)

    @cached_property
    def _hann(self) -> Float[Tensor, " w"]:
        return torch.hann_window(self.window)

    def frames(self, samples: int) -> int:
        """Say how many frames so many samples have."""
        return 1 + samples // self.hop

    def log_mel(self, sound: Float[Tensor, "*b n"]) -> Float[Tensor, "*b t f"]:
        """Compute log(mel + eps)."""
        magnitude = rearrange(self._stft(sound).abs(), "... k t -> ... t k")
        return (magnitude @ self.filters + self.eps).log()

    def sound(self, log_mel: Float[Tensor, "b t f"], samples: int) -> Float[Tensor, "b n"]:
        """Find sounds of such spectrograms: the magnitudes by ``unmelt``, then the phases by ``griffin_lim``."""
        mel = (log_mel.clamp(max=_LOUDEST).exp() - self.eps).clamp(min=0)
        magnitude = rearrange(unmelt(mel, self.filters), "b t k -> b k t")
        return self.griffin_lim(magnitude, samples)

    def griffin_lim(self, magnitude: Float[Tensor, "b k t"], samples: int) -> Float[Tensor, "b n"]:
        """Find sounds of such magnitudes, starting from phase zero.

        Fast Griffin-Lim, Perraudin, Balazs and Søndergaard, WASPAA 2013. A silent frame is put behind: up to a hop of
        samples after the centre of the last one lies under the end of its window alone, and would be divided by it.
        """
        length = magnitude.shape[-1] * self.hop
        magnitude = pad(magnitude, [0, 1])
        phase = torch.ones_like(magnitude, dtype=torch.complex64)
        before = torch.zeros_like(phase)
        for _ in range(_ITERATIONS):
            found = self._stft(self._istft(magnitude * phase, length))
            phase = found - before * (_MOMENTUM / (1 + _MOMENTUM))
            phase, before = phase / (phase.abs() + _TINY), found
        return self._istft(magnitude * phase, length)[:, :samples]

    def _stft(self, sound: Float[Tensor, "*b n"]) -> Complex[Tensor, "*b k t"]:
        spectrum = torch.stft(sound, self.window, self.hop, window=self._hann, pad_mode="constant", return_complex=True)
        return spectrum * (2 / self._hann.sum())

    def _istft(self, spectrum: Complex[Tensor, "b k t"], samples: int) -> Float[Tensor, "b n"]:
        spectrum = spectrum * (self._hann.sum() / 2)
        return torch.istft(spectrum, self.window, self.hop, window=self._hann, length=samples)


def unmelt(mel: Float[Tensor, "*b f"], filters: Float[Tensor, "k f"]) -> Float[Tensor, "*b k"]:
    """Find magnitudes x >= 0 of least squared error of x filters to mel, starting from flat ones.

        x <- x * (mel filters^T) / (x filters filters^T)

    Multiplicative updates, Lee and Seung, NIPS 2000.
    """
    target, gram = mel @ filters.T, filters @ filters.T
    x = target / (gram.sum(1) + _TINY)
    for _ in range(_UPDATES):
        x = x * target / (x @ gram + _TINY)
    return x


def spectra_of(
    sample_rate: int, *, bands: int, window: int | None, hop: int | None, low: float, high: float | None, floor: float
) -> Spectra:
    """Fill in what is None: a window of about 32 ms, a power of two; a hop of 7/16 of it; half of the sample rate."""
    window = window or max(16, 1 << round(math.log2(0.032 * sample_rate)))
    hop = hop or max(1, 7 * window // 16)
    return Spectra(sample_rate, window, hop, bands, low, sample_rate / 2 if high is None else high, floor)


def _check(condition: bool, problem: str, expected: str, actual: str, fix: str | None = None) -> None:
    if not condition:
        raise ConfigError(problem, expected=expected, actual=actual, fix=fix)
