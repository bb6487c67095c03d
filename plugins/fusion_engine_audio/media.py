"""Sounds for people: WAV files and pictures of spectrograms."""

import io
import math

import numpy as np
import PIL.Image
import soundfile
from jaxtyping import Float, UInt8

from fusion_engine import Media

_SMALLEST_SIDE = 96
_CURVE = (256, 96)
_COLOURS = np.array(
    [
        list(bytes.fromhex(code))
        for code in ["000004", "1c1044", "4f127b", "812581", "b5367a", "e55064", "fb8761", "fec287", "fcfdbf"]
    ]
)
"""Nine steps of the colour map magma (Smith and van der Walt, CC0): equal steps look equally far apart."""


def wav(sound: Float[np.ndarray, " n"], sample_rate: int) -> bytes:
    """Write a 16-bit WAV file; a sound beyond full scale is made quieter as a whole."""
    peak = max(1.0, float(np.abs(sound).max(initial=0.0)))
    stream = io.BytesIO()
    soundfile.write(stream, sound / peak, sample_rate, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def picture(levels: Float[np.ndarray, "t f"], low: float, high: float) -> bytes:
    """Draw a spectrogram as a PNG, time to the right and low frequencies at the bottom, from low (black) to high."""
    shares = ((levels - low) / max(high - low, 1e-6)).clip(0, 1)
    image = PIL.Image.fromarray(coloured(shares.T[::-1]))
    factor = math.ceil(_SMALLEST_SIDE / min(image.size))
    return _png(image.resize((image.width * factor, image.height * factor), PIL.Image.Resampling.NEAREST))


def curve(sound: Float[np.ndarray, " n"]) -> bytes:
    """Draw a waveform as a PNG, each column from its smallest to its largest value; the peak fills the height."""
    columns = min(_CURVE[0], len(sound))
    starts = np.arange(columns) * len(sound) // columns
    peak = max(float(np.abs(sound).max()), 1e-9)
    low, high = (extreme.reduceat(sound, starts) / peak for extreme in (np.minimum, np.maximum))
    y, pixel = np.linspace(1, -1, _CURVE[1])[:, None], 2 / _CURVE[1]
    line = (low - pixel <= y) & (y <= high + pixel)
    image = PIL.Image.fromarray(np.where(line, 40, 255).astype(np.uint8))
    return _png(image.resize(_CURVE, PIL.Image.Resampling.NEAREST))


def _png(image: PIL.Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def coloured(shares: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Colour numbers in [0, 1]."""
    steps = np.linspace(0, 1, len(_COLOURS))
    channels = [np.interp(shares, steps, column) for column in _COLOURS.T]
    return np.stack(channels, -1).round().astype(np.uint8)


def audible(sound: Float[np.ndarray, " n"], sample_rate: int, shown: bytes) -> Media:
    """Join a sound and its picture."""
    return Media("audio/wav", wav(sound, sample_rate), picture=shown)
