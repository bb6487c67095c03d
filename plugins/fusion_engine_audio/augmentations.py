"""What a discriminator may see sounds through: shifts, gains, and SpecAugment's masks.

Park et al., 2019, arXiv:1904.08779 (masks of time and frequency); Zhao et al., 2020, arXiv:2006.10738 (the rest: shifts
of an eighth, as images'). Each is differentiable in the data, twice.
Axes: b batch, t frames or samples, f frequency bands.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from fusion_engine import Noise

Spectrograms = Float[Tensor, "b t f"]
Sounds = Float[Tensor, "b t"]
_OCTAVE = math.log(2)
"""Twice as loud, 6 dB."""


def spectrogram_gain(x: Spectrograms, noise: Noise, deviation: float) -> Spectrograms:
    """Make a sound louder or quieter by up to 6 dB: x + u / deviation, u ~ U(-log 2, log 2), the floor included."""
    u = 2 * noise.uniform(like=x) - 1
    return x + rearrange(u, "b -> b 1 1") * (_OCTAVE / deviation)


def spectrogram_shift(x: Spectrograms, noise: Noise) -> Spectrograms:
    """Move by up to an eighth of the frames; what comes in is 0, the mean."""
    return rearrange(shift(rearrange(x, "b t f -> b f t"), noise), "b f t -> b t f")


def time_mask(x: Spectrograms, noise: Noise) -> Spectrograms:
    """Set up to a quarter of the frames, side by side, to 0, the mean."""
    return x.masked_fill(_band(noise.uniform(2, like=x), x.shape[1])[:, :, None], 0.0)


def frequency_mask(x: Spectrograms, noise: Noise) -> Spectrograms:
    """Set up to a quarter of the bands, side by side, to 0, the mean."""
    return x.masked_fill(_band(noise.uniform(2, like=x), x.shape[2])[:, None, :], 0.0)


def gain(x: Sounds, noise: Noise) -> Sounds:
    """Make a sound louder or quieter by up to 6 dB: x exp(u), u ~ U(-log 2, log 2)."""
    u = 2 * noise.uniform(like=x) - 1
    return x * (u * _OCTAVE).exp()[:, None]


def shift(x: Float[Tensor, "b *c t"], noise: Noise, ratio: float = 0.125) -> Float[Tensor, "b *c t"]:
    """Move by up to an eighth of the duration; what comes in is 0."""
    t = x.shape[-1]
    reach = int(t * ratio + 0.5)
    by = (noise.uniform(like=x) * (2 * reach + 1)).long() - reach
    source = torch.arange(t, device=x.device) - by[:, None]
    source = source.reshape(len(x), *[1] * (x.ndim - 2), t).expand_as(x)
    outside = (source < 0) | (source >= t)
    return x.gather(-1, source.clamp(0, t - 1)).masked_fill(outside, 0.0)


def _band(u: Float[Tensor, "b 2"], n: int) -> Bool[Tensor, "b n"]:
    """A band of width 0 to n / 4 that starts anywhere where it fits, both uniform."""
    width = (u[:, 0] * (n // 4 + 1)).long()
    start = (u[:, 1] * (n + 1 - width)).long()
    place = torch.arange(n, device=u.device) - start[:, None]
    return (place >= 0) & (place < width[:, None])
