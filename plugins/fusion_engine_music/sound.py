"""Melodies for people: sounds of sines, and piano rolls."""

import io

import numpy as np
import PIL.Image
import soundfile
from jaxtyping import Float

from fusion_engine import Media

RATE = 16000
SECONDS_PER_BEAT = 0.4
_FADE = 0.01
_CELL = 8
"""Pixels of a semitone and of a quarter of a beat."""
_LONGEST = 16.0
"""Beats that an event may last, and ..."""
_SHORTEST = 1 / 16
"""... must last at least, to be heard and seen."""


def frequency(pitch: float) -> float:
    """Return the frequency in Hz of a MIDI number: 69 is the A of 440 Hz, 12 more its octave."""
    return float(440 * 2 ** ((pitch - 69) / 12))


def sound(melody: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, " t"]:
    """Play each note as a sine that fades in and out; a rest is silence."""
    return np.concatenate([_note(float(pitch), float(beats)) for pitch, beats in melody])


def _note(pitch: float, beats: float) -> Float[np.ndarray, " t"]:
    t = np.arange(round(_heard(beats) * SECONDS_PER_BEAT * RATE)) / RATE
    if pitch <= 0:
        return np.zeros(len(t))
    fade = np.minimum(1.0, np.minimum(t, t[-1] - t) / _FADE)
    return np.asarray(0.5 * np.sin(2 * np.pi * frequency(pitch) * t) * fade)


def _heard(beats: float) -> float:
    return min(max(beats, _SHORTEST), _LONGEST)


def piano_roll(melody: Float[np.ndarray, "n 2"], low: int, high: int) -> bytes:
    """Draw pitch upwards over time as a PNG, a bar a note."""
    ends = np.rint(4 * np.cumsum([_heard(float(beats)) for beats in melody[:, 1]])).astype(int)
    page = np.full((high - low + 1, max(int(ends[-1]), 1)), 255, np.uint8)
    for (pitch, _), start, end in zip(melody, [0, *ends[:-1]], ends, strict=True):
        if low <= pitch <= high:
            page[high - round(float(pitch)), start : max(end, start + 1)] = 40
    image = PIL.Image.fromarray(page)
    stream = io.BytesIO()
    image.resize((_CELL * image.width, _CELL * image.height), PIL.Image.Resampling.NEAREST).save(stream, "PNG")
    return stream.getvalue()


def played(melody: Float[np.ndarray, "n 2"], low: int, high: int) -> Media:
    """Join the sound and the piano roll of a melody."""
    stream = io.BytesIO()
    soundfile.write(stream, sound(melody), RATE, format="WAV", subtype="PCM_16")
    return Media("audio/wav", stream.getvalue(), picture=piano_roll(melody, low, high))
