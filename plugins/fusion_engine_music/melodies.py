"""Melodies made by rule: a data set that needs no download and says of any melody what rules it keeps."""

import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from fusion_engine import ConfigError, Dataset
from fusion_engine_music.grammar import SCALES, TONIC, Rules, check_rules, make_melody

Row = Mapping[str, Any]
Positive = Annotated[int, Field(ge=1)]


class Melodies(Dataset):
    """Melodies in C major and C minor; a row is {melody: [n 2], mode: str}, the mode drawn evenly.

    A melody is a Markov chain over the degrees of the scale, by steps, thirds, repeats and leaps between tonic and
    fifth, from a note of the tonic's chord to a tonic; beside the pitch (MIDI, 0 for a rest) stand the beats, a half or
    one, two for the last note. Rests stand apart, neither first nor last. ``rules`` says what of it a melody keeps.

    A generator cannot know where a discriminator's mask will end its sequence: it learns to end on the tonic where all
    melodies are equally long, which they are by default.

    Args:
        rows: to learn from.
        held_out: to report on; as many again to choose by.
        shortest, longest: events a melody, drawn evenly.
        seed: of everything. Row i of a split is the same however many there are.

    Raises:
        ConfigError: the longest is shorter than the shortest.
    """

    def __init__(
        self,
        *,
        rows: Positive = 1000,
        held_out: Positive = 500,
        shortest: Annotated[int, Field(ge=2)] = 12,
        longest: Annotated[int, Field(ge=2)] = 12,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        if longest < shortest:
            raise ConfigError(
                "no melody is that long", expected=f"`longest` of at least {shortest}", actual=str(longest)
            )
        self.rows, self.held_out, self.shortest, self.longest, self.seed = rows, held_out, shortest, longest, seed

    @cached_property
    def train(self) -> Sequence[Row]:
        """The rows to learn from."""
        return self._split("train", self.rows)

    @cached_property
    def validation(self) -> Sequence[Row]:
        """The rows to choose by."""
        return self._split("validation", self.held_out)

    @cached_property
    def test(self) -> Sequence[Row]:
        """The rows to report on."""
        return self._split("test", self.held_out)

    def labels(self, modality: str, raw: Any) -> frozenset[Any] | None:
        """Return the modes whose scale holds every note of a melody; both, where it avoids what tells them apart."""
        if modality != "melody":
            return None
        pitches = set(np.rint(np.asarray(raw, float)[:, 0]).astype(int).tolist()) - {0}
        return frozenset(mode for mode, scale in SCALES.items() if pitches <= {TONIC + s for s in scale})

    def rules(self, melody: Any, mode: str) -> Rules:
        """Return which rules of a mode's grammar a melody keeps."""
        return check_rules(melody, mode)

    def _split(self, name: str, n: int) -> list[Row]:
        return [self._row(np.random.default_rng([self.seed, zlib.crc32(name.encode()), i])) for i in range(n)]

    def _row(self, random: np.random.Generator) -> Row:
        mode = str(random.choice(list(SCALES)))
        n = int(random.integers(self.shortest, self.longest + 1))
        return {"melody": make_melody(n, mode, random), "mode": mode}
