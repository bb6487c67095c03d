"""Melodies made by rule, checked by rules written down again."""

from itertools import pairwise, product

import numpy as np
import pytest
from scipy.stats import chisquare

from fusion_engine import ConfigError
from fusion_engine_music.grammar import check_rules, make_degrees, moves
from fusion_engine_music.melodies import Melodies

MAJOR, MINOR = {0, 2, 4, 5, 7, 9, 11, 12}, {0, 2, 3, 5, 7, 8, 10, 12}
SCALE = {"major": sorted(60 + s for s in MAJOR), "minor": sorted(60 + s for s in MINOR)}
DATA = Melodies(rows=300, held_out=20, shortest=6, longest=10)


def is_allowed(a: int, b: int, scale: list[int]) -> bool:
    """Steps, thirds, repeats; leaps between tonics and the fifth."""
    i, j = scale.index(a), scale.index(b)
    return abs(i - j) <= 2 or {a - 60, b - 60} in ({0, 7}, {7, 12})


def test_every_melody_keeps_the_grammar():
    for row in DATA.train:
        melody, scale = row["melody"], SCALE[row["mode"]]
        assert melody.dtype == np.float32
        assert 6 <= len(melody) <= 10
        notes = [int(p) for p in melody[:, 0] if p]
        assert set(notes) <= set(scale)
        assert all(is_allowed(a, b, scale) for a, b in pairwise(notes))
        assert notes[0] - 60 in (0, 3, 4, 7)
        assert notes[-1] in (60, 72)
        assert melody[0, 0]
        assert melody[-1, 0]
        assert not any(a == b == 0 for a, b in zip(melody[:, 0], melody[1:, 0]))
        assert melody[-1, 1] == 2
        assert set(melody[:-1, 1].tolist()) <= {0.5, 1}
        assert DATA.rules(melody, row["mode"]).all_kept
        assert row["mode"] in DATA.labels("melody", melody)


def test_splits_differ_and_a_row_is_the_same_however_many_there_are():
    other = Melodies(rows=5, held_out=20, shortest=6, longest=10)
    for a, b in zip(other.train, DATA.train):
        assert np.array_equal(a["melody"], b["melody"])
    assert {len(s) for s in (DATA.validation, DATA.test)} == {20}
    assert not any(np.array_equal(a["melody"], b["melody"]) for a, b in zip(DATA.validation, DATA.test))
    modes = [row["mode"] for row in DATA.train]
    assert 120 <= modes.count("major") <= 180


def test_walks_are_drawn_as_the_chain_given_its_end():
    """All walks of three degrees, with their probabilities by Bayes' rule."""
    weight = {
        walk: moves()[walk[0], walk[1]] * moves()[walk[1], walk[2]]
        for walk in product(range(8), repeat=3)
        if walk[0] in (0, 2, 4) and walk[2] in (0, 7)
    }
    weight = {walk: w for walk, w in weight.items() if w > 0}
    random = np.random.default_rng(0)
    drawn = [tuple(make_degrees(3, random)) for _ in range(8000)]
    assert set(drawn) == set(weight)
    expected = np.array(list(weight.values())) / sum(weight.values()) * len(drawn)
    assert chisquare([drawn.count(walk) for walk in weight], expected).pvalue > 0.01


def test_rules_of_melodies_by_hand():
    def melody(*pitches: int) -> np.ndarray:
        return np.array([[p, 1] for p in pitches], float)

    kept = check_rules(melody(60, 62, 64, 60, 67, 72), "major")
    assert kept.all_kept
    assert (kept.in_key, kept.allowed) == (1, 1)
    wrong = check_rules(melody(60, 63, 69, 0, 0, 62), "major")  # E flat; a tritone; two rests; ends on D
    assert (wrong.in_key, wrong.allowed, wrong.ends_on_tonic, wrong.rests_apart) == (0.75, 0, False, False)
    leap = check_rules(melody(60, 69, 67, 72), "major")
    assert (leap.in_key, leap.allowed, leap.all_kept) == (1, pytest.approx(2 / 3), False)
    assert check_rules(melody(60, 63, 60), "minor").all_kept
    assert not check_rules(melody(60, 0), "major").ends_on_tonic
    assert check_rules(melody(0, 0), "major").in_key == 0


def test_labels_are_the_modes_that_hold_every_note():
    assert DATA.labels("melody", [[60, 1], [64, 1]]) == {"major"}
    assert DATA.labels("melody", [[60, 1], [0, 1], [63, 1]]) == {"minor"}
    assert DATA.labels("melody", [[60, 1], [62, 1]]) == {"major", "minor"}
    assert DATA.labels("melody", [[61, 1]]) == set()
    assert DATA.labels("mode", "major") is None


def test_the_longest_is_no_shorter_than_the_shortest():
    with pytest.raises(ConfigError, match="no melody is that long"):
        Melodies(shortest=8, longest=7)
