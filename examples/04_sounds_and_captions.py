"""Sounds and captions from a CSV with gaps: WAV files and texts, translated into each other.

Result: a low and a high tone get their captions; captions give tones of 401 and 1480 Hz (400 and 1500 are right); the
gaps are filled, with a tone of 1480 Hz and with "low".
"""

import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

from fusion_engine import Engine

RATE, TONES = 8000, {"low": 400, "a high tone": 1500}


def write_table(folder: Path, rng: np.random.Generator) -> Path:
    """Write sixty tones of differing length, and a table of their files and captions; two cells are empty."""
    rows = []
    for i in range(60):
        caption = list(TONES)[i % 2]
        t = np.arange(int(RATE * rng.uniform(0.2, 0.4))) / RATE
        path = folder / f"tone{i:02d}.wav"
        soundfile.write(path, 0.5 * np.sin(2 * np.pi * TONES[caption] * t), RATE)
        rows.append({"sound": str(path), "caption": caption})
    rows[3]["sound"] = rows[4]["caption"] = ""
    with (folder / "tones.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["sound", "caption"])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "tones.csv"


def loudest(sound: np.ndarray) -> float:
    """The strongest frequency of a sound, in Hz."""
    return float(np.abs(np.fft.rfft(sound)).argmax() * RATE / len(sound))


with TemporaryDirectory() as folder:
    with write_table(Path(folder), np.random.default_rng(0)).open(newline="") as file:
        table = [{name: cell or None for name, cell in row.items()} for row in csv.DictReader(file)]
    model = Engine().recipe(
        "vae_gan",
        modalities={"sound": "modality/audio.mel", "caption": "modality/text"},
        posterior="random_subset",
        latent=8,
        epochs=[60, 2, 10],
    )
    model.fit(table)
    captions = model.translate([{"sound": row["sound"]} for row in table[:2]], to="caption")
    tones = [loudest(sound) for sound in model.translate({"caption": list(TONES)}, to="sound")]
    filled = model.impute(table[:5])

gaps = (loudest(filled[3]["sound"]), filled[4]["caption"])
print(captions, [f"{tone:.0f} Hz" for tone in tones], f"filled: {gaps[0]:.0f} Hz, {gaps[1]!r}")
assert captions == list(TONES)
assert all(abs(tone - right) < 50 for tone, right in zip(tones, TONES.values(), strict=True))
assert abs(gaps[0] - 1500) < 50
assert gaps[1] == "low"
