"""Slaney's mel scale, and triangular filters that are evenly spaced on it."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

_LINEAR = 1000.0
"""Up to here, in Hz, the scale is linear; from here logarithmic."""
_STEP = 200 / 3
_RATIO = math.log(6.4) / 27


def to_mel(frequency: float) -> float:
    """Turn Hz into mel: 15 a kHz up to 1 kHz, then 27 for a factor of 6.4. Slaney, Auditory Toolbox, 1998."""
    if frequency < _LINEAR:
        return frequency / _STEP
    return _LINEAR / _STEP + math.log(frequency / _LINEAR) / _RATIO


def to_hz(mel: Float[Tensor, " f"]) -> Float[Tensor, " f"]:
    """Turn mel into Hz."""
    knee = _LINEAR / _STEP
    return torch.where(mel < knee, mel * _STEP, _LINEAR * torch.exp(_RATIO * (mel - knee)))


def mel_filters(frequencies: int, sample_rate: int, bands: int, low: float, high: float) -> Float[Tensor, "k f"]:
    """Make one triangle of height 1 a band, over k frequencies from 0 to half of the sample rate.

    Each begins at the centre of the one before and ends at the centre of the next. A filter that is narrower than the
    spacing of the frequencies may be zero.
    """
    edges = to_hz(torch.linspace(to_mel(low), to_mel(high), bands + 2, dtype=torch.float64))
    k = torch.linspace(0, sample_rate / 2, frequencies, dtype=torch.float64)[:, None]
    rise = (k - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - k) / (edges[2:] - edges[1:-1])
    return torch.minimum(rise, fall).clamp(min=0).float()
