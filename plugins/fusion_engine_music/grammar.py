"""The grammar that melodies are made by, and what a melody keeps of it."""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

REST = 0
"""Stands in the place of a pitch."""
TONIC = 60
"""The MIDI number of C4, the lower tonic of all melodies."""
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11, 12), "minor": (0, 2, 3, 5, 7, 8, 10, 12)}
"""Semitones above the tonic of degree 1 to 8, the octave; minor is the natural one."""
BEATS = (0.5, 1.0, 2.0)
"""How long notes last."""
_WEIGHTS = {1: 4.0, 2: 2.0, 0: 1.0}
"""Of moving by a step, by a third, and of staying."""
_LEAPS = {(0, 4), (4, 0), (4, 7), (7, 4)}
"""Between tonic and fifth, by degree from 0."""
_RESTS = 0.1


@dataclass(frozen=True)
class Rules:
    """What a melody keeps of the grammar: shares of its notes, of its moves, and how it ends."""

    in_key: float
    """of the notes, those that belong to the scale"""
    allowed: float
    """of the moves from note to note, those that the grammar makes; 1 where there is only one note"""
    ends_on_tonic: bool
    rests_apart: bool
    """no rest comes first, last or after another"""

    @property
    def all_kept(self) -> bool:
        """Whether no rule is broken."""
        return self.in_key == 1 and self.allowed == 1 and self.ends_on_tonic and self.rests_apart


@cache
def moves() -> NDArray[np.float64]:
    """Probabilities [from to] of moving between the eight degrees: steps, thirds, repeats, tonic-fifth leaps."""
    weight = np.zeros((8, 8))
    for a in range(8):
        for b in range(8):
            weight[a, b] = _WEIGHTS.get(abs(a - b), 1.0 if (a, b) in _LEAPS else 0.0)
    return np.asarray(weight / weight.sum(1, keepdims=True))


def make_degrees(n: int, random: np.random.Generator) -> list[int]:
    """Draw a walk of n degrees that begins on 1, 3 or 5 and ends on a tonic, 1 or 8.

    p(d_t | d_{t-1}, the end) proportional to move(d_{t-1}, d_t) * P(a tonic n - t moves later | d_t)
    """
    to_go = [np.isin(np.arange(8), (0, 7)).astype(float)]
    for _ in range(n - 1):
        to_go.append(moves() @ to_go[-1])
    chances = np.isin(np.arange(8), (0, 2, 4)) * to_go[-1]
    found: list[int] = []
    for left in reversed(range(n)):
        found.append(int(random.choice(8, p=chances / chances.sum())))
        if left:
            chances = moves()[found[-1]] * to_go[left - 1]
    return found


def make_melody(n: int, mode: str, random: np.random.Generator) -> NDArray[np.float32]:
    """Draw a melody of n events, notes and rests: [n 2] of MIDI pitch (0 for a rest) and beats."""
    rest = random.random(n) < _RESTS
    rest[[0, -1]] = False
    for i in range(1, n):
        rest[i] &= not rest[i - 1]
    degrees = iter(make_degrees(int((~rest).sum()), random))
    pitch = [REST if silent else TONIC + SCALES[mode][next(degrees)] for silent in rest]
    beats = random.choice(BEATS[:2], n, p=(0.6, 0.4))
    beats[-1] = BEATS[-1]
    return np.stack([pitch, beats], 1).astype(np.float32)


def check_rules(melody: Any, mode: str) -> Rules:
    """Hold a melody [n 2] against the grammar of a mode."""
    pitches = np.rint(np.asarray(melody, float)[:, 0]).astype(int)
    silent = pitches == REST
    degree_of = {TONIC + semitones: degree for degree, semitones in enumerate(SCALES[mode])}
    degrees = [degree_of.get(int(p)) for p in pitches[~silent]]
    pairs = list(pairwise(degrees))
    kept = [a is not None and b is not None and moves()[a, b] > 0 for a, b in pairs]
    return Rules(
        in_key=float(np.mean([d is not None for d in degrees])) if degrees else 0.0,
        allowed=float(np.mean(kept)) if kept else 1.0,
        ends_on_tonic=bool(degrees) and degrees[-1] in (0, 7) and not silent[-1],
        rests_apart=not (silent[0] or silent[-1] or bool((silent[1:] & silent[:-1]).any())),
    )
