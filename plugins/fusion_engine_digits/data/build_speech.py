"""Make speech_bank.npz: the ten digits spoken by forty synthetic voices.

Usage: ``python build_speech.py OUT.npz``. Needs espeak-ng 1.51 on the PATH, and SciPy.
The README beside this file describes what is written.
"""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = (
    *("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp"),
    *("en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc"),
)
VOICES = (
    *("Andy", "Annie", "antonio", "AnxiousAndy", "aunty", "belinda", "boris", "Demonic", "ed", "f1", "f5", "Gene2"),
    *("grandma", "gustave", "Henrique", "iven3", "kaukovalta", "klatt2", "klatt5", "linda", "m2", "m3", "m4", "m7"),
    *("Michael", "michel", "Mike", "pablo", "quincy", "RicishayMax2", "robert", "robosoft2", "robosoft4", "robosoft6"),
    *("robosoft8", "shelby", "steph", "Storm", "Tweaky", "victor"),
)
HELD_OUT = {"Annie", "aunty", "belinda", "ed", "Henrique", "iven3", "klatt2", "Mike", "pablo", "robosoft2"}
TIMES = 3  # how often a voice says each digit
RATE = 8000  # Hz
LONGEST = 4400  # samples, 0.55 s
SPOKEN_AT = 22050  # Hz, what espeak-ng writes
FASTER = 15  # words a minute that a clip gains when it is too long
PEAK = 0.9


class Clip(NamedTuple):
    """What is said, and how: indices of digit, voice and accent, espeak-ng's pitch (0..99) and words a minute."""

    label: int
    voice: int
    accent: int
    pitch: int
    speed: int


def clips() -> Iterator[Clip]:
    """Draw what is to be said, voice by voice and digit by digit, each time in another accent."""
    random = np.random.default_rng(7)
    for voice in range(len(VOICES)):
        for label in range(len(WORDS)):
            for accent in random.choice(len(ACCENTS), TIMES, replace=False):
                yield Clip(label, voice, int(accent), int(random.integers(20, 81)), int(random.integers(150, 211)))


def speak(clip: Clip) -> NDArray[np.float64]:
    """Let espeak-ng say it, at RATE; the level is espeak-ng's.

    Raises:
        ValueError: espeak-ng wrote at another rate than SPOKEN_AT.
    """
    voice = f"{ACCENTS[clip.accent]}+{VOICES[clip.voice]}"
    command = ["espeak-ng", "-v", voice, "-p", str(clip.pitch), "-s", str(clip.speed), "-z", "--stdout"]
    wav = subprocess.run([*command, WORDS[clip.label]], capture_output=True, check=True, timeout=20).stdout
    rate, start = int.from_bytes(wav[24:28], "little"), wav.find(b"data") + 8  # sizes in a piped header are not set
    if rate != SPOKEN_AT:
        raise ValueError(f"espeak-ng wrote {rate} Hz, not {SPOKEN_AT}")
    sound = np.frombuffer(wav[start : start + (len(wav) - start) // 2 * 2], "<i2").astype(np.float64)
    return np.asarray(resample_poly(sound, 160, 441), dtype=np.float64)


def trim(sound: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut the silence off, but for 10 ms at either end, and scale to PEAK."""
    level = np.convolve(np.abs(sound), np.ones(80) / 80, "same")
    loud = np.flatnonzero(level > 0.02 * level.max())
    kept = sound[max(0, loud[0] - 80) : loud[-1] + 80]
    return np.asarray(kept / np.abs(kept).max() * PEAK, dtype=np.float64)


def encode(sound: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Code [-1, 1] as mu-law: sign(x) log(1 + 255 |x|) / log 256, from -1..1 to 0..255."""
    squeezed = np.sign(sound) * np.log1p(255 * np.abs(sound)) / np.log(256)
    coded: NDArray[np.uint8] = np.rint((squeezed + 1) * 127.5).astype(np.uint8)
    return coded


def make(clip: Clip) -> tuple[Clip, NDArray[np.uint8]]:
    """Say it, faster until it is short enough."""
    while len(sound := trim(speak(clip))) > LONGEST:
        clip = clip._replace(speed=clip.speed + FASTER)
    return clip, encode(sound)


def build(out: str) -> None:
    """Write the bank."""
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(make, clips()))
    columns = Clip(*np.array([clip for clip, _ in made]).T)
    np.savez_compressed(
        out,
        audio=np.concatenate([sound for _, sound in made]),
        offset=np.cumsum([0, *(len(sound) for _, sound in made)]).astype(np.int32),
        label=np.asarray(columns.label, np.int8),
        voice=np.asarray(columns.voice, np.int8),
        accent=np.asarray(columns.accent, np.int8),
        pitch=np.asarray(columns.pitch, np.int8),
        speed=np.asarray(columns.speed, np.uint8),
        test=np.array([VOICES[clip.voice] in HELD_OUT for clip, _ in made], np.int8),
        voices=np.array(VOICES),
        accents=np.array(ACCENTS),
        sample_rate=np.int32(RATE),
    )


if __name__ == "__main__":
    build(sys.argv[1])
