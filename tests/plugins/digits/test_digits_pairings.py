"""Speech and text beside the images: pairing, repetition, independence of draws, and files of the same layout."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion_engine import ConfigError, DataError, Engine
from fusion_engine_digits.digits import Digits
from fusion_engine_digits.phrases import meaning
from fusion_engine_digits.speech import packaged_bank

FOUR = ("image", "strokes", "audio", "text")
FIVE = (*FOUR, "label")
SPLITS = ("train", "validation", "test")


def content(raw: Any) -> Any:
    """Turn a raw sample into something that compares and hashes."""
    if isinstance(raw, tuple):
        return raw[0].tobytes(), raw[1]
    return raw.tobytes() if isinstance(raw, np.ndarray) else raw


def column(data: Digits, name: str, split: str = "train") -> list[Any]:
    return [content(row[name]) for row in getattr(data, split)]


@pytest.fixture(scope="module")
def spoken() -> dict[bytes, tuple[int, bool]]:
    """What is said in a clip of the bank, and whether by a held-out voice, by the clip's content."""
    bank = packaged_bank()
    clips = zip(bank.speech.clips, bank.label.tolist(), bank.test.tolist(), strict=True)
    return {clip.tobytes(): (label, test) for clip, label, test in clips}


def test_raw_samples_and_their_order() -> None:
    row = Digits(modalities=("text", "audio", "image")).train[0]
    assert list(row) == ["text", "audio", "image"]
    clip, rate = row["audio"]
    assert clip.dtype == np.float32
    assert clip.ndim == 1
    assert abs(clip).max() <= 1
    assert rate == 8000
    assert type(rate) is int
    assert type(row["text"]) is str
    assert list(Digits().train[0]) == ["image", "strokes"]


def test_every_row_hears_its_digit_and_test_rows_hear_strangers(spoken: dict[bytes, tuple[int, bool]]) -> None:
    data = Digits(modalities=FIVE, pairings=3)
    assert len(spoken) == 1200
    for split in SPLITS:
        for row in getattr(data, split):
            assert spoken[row["audio"][0].tobytes()] == (row["label"], split == "test")
            assert row["label"] in meaning(row["text"])
    used = Counter(
        clip for split in ("train", "validation") for clip, _ in column(Digits(modalities=FIVE), "audio", split)
    )
    assert len(used) == 900
    assert set(used.values()) <= {1, 2}
    assert len(set(column(data, "audio", "test"))) == 300


def test_the_engine_reads_phrases_with_it() -> None:
    config = {"fusion_graph": 1, "modalities": {"picture": {"use": "modality/image"}}}
    config |= {"nodes": {"encoder": {"use": "encoder/image.conv", "in": "picture"}}}
    part = {"modalities": ["image", "audio", "text"], "pairings": 2, "audio_noise": -5, "ambiguous": 1}
    found = Engine().dataset(config | {"data": {"use": "dataset/digits", "with": part}})
    assert found.labels("text", "an odd digit") == {1, 3, 5, 7, 9}
    assert found.labels("text", "an odd digt") == frozenset()
    assert found.labels("image", found.test[0]["image"]) is None
    assert found.labels("audio", found.test[0]["audio"]) is None
    assert all(len(meaning(row["text"])) > 1 for row in found.test)
    for wrong in ({"pairings": 0}, {"ambiguous": 1.1}, {"audio_noise": "loud"}, {"fold": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Engine().dataset(config | {"data": {"use": "dataset/digits", "with": wrong}})


@pytest.mark.parametrize("ambiguous", [0.0, 0.3, 1.0])
def test_the_share_of_ambiguous_phrases(ambiguous: float) -> None:
    data = Digits(modalities=("text", "label"), ambiguous=ambiguous, pairings=4)
    share = np.mean([len(meaning(row["text"])) > 1 for row in data.train])
    assert share == pytest.approx(ambiguous, abs=0.03)  # four and a half deviations


def test_everything_repeats_with_its_seed() -> None:
    def rows(seed: int) -> list[Any]:
        data = Digits(modalities=FOUR, pairings=2, missing=0.3, audio_noise=3.0, seed=seed)
        return [[content(x) for x in row.values()] for split in SPLITS for row in getattr(data, split)]

    assert rows(3) == rows(3)
    one, other = Digits(modalities=FOUR, seed=3), Digits(modalities=FOUR, seed=4)
    for name in ("audio", "text"):
        same = np.mean([a == b for a, b in zip(column(one, name, "test"), column(other, name, "test"), strict=True)])
        assert same < 0.15


def test_draws_are_independent_of_other_modalities_and_options() -> None:
    base = Digits(modalities=FIVE, audio_noise=0.0, noise=0.2)
    for name in FIVE:
        alone = Digits(modalities=(name,), audio_noise=0.0, noise=0.2)
        for split in SPLITS:
            assert column(alone, name, split) == column(base, name, split)
    fewer = Digits(modalities=FIVE, validation=0.5, ambiguous=0.9, audio_noise=0.0)
    by_strokes = {content(row["strokes"]): content(row["audio"]) for row in base.train}
    for row in fewer.train:
        assert by_strokes.get(content(row["strokes"]), content(row["audio"])) == content(row["audio"])
    assert column(fewer, "text", "test") != column(base, "text", "test")
    assert column(fewer, "audio", "test") == column(base, "audio", "test")


def test_pairings_repeat_images_beside_other_clips_phrases_and_gaps() -> None:
    once, often = Digits(modalities=FIVE), Digits(modalities=FIVE, pairings=5)
    n = len(once.train)
    assert len(often.train) == 5 * n
    for split in ("validation", "test"):
        assert [column(often, m, split) for m in FIVE] == [column(once, m, split) for m in FIVE]
    for name in ("image", "strokes", "label"):
        assert column(often, name) == column(once, name) * 5
    clips = np.array([hash(x) for x in column(often, "audio")]).reshape(5, n)
    assert all(len(set(of_row)) == 5 for of_row in clips.T)
    phrases = column(often, "text")
    assert column(once, "text") == phrases[:n]
    assert column(once, "audio") == column(often, "audio")[:n]
    assert np.mean([a == b for a, b in zip(phrases[:n], phrases[n : 2 * n], strict=True)]) < 0.05


def test_pairings_draw_gaps_anew() -> None:
    once = Digits(modalities=FIVE, missing=0.4)
    often = Digits(modalities=FIVE, missing=0.4, pairings=3)
    gaps = np.array([[x is None for x in row.values()] for row in often.train]).reshape(3, -1, 5)
    assert not gaps.all(2).any()
    assert gaps.mean((1, 2)) == pytest.approx([0.4] * 3, abs=0.02)
    np.testing.assert_array_equal(gaps[0], [[x is None for x in row.values()] for row in once.train])
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(gaps[a].ravel(), gaps[b].ravel())[0, 1]) < 0.05


def test_the_validation_split_shares_no_image_with_training_rows() -> None:
    data = Digits(modalities=("image", "audio"), pairings=3, validation=0.3)
    seen = [set(column(data, "image", split)) for split in SPLITS]
    assert [len(images) for images in seen] == [1006, 431, 360]
    assert len(set.union(*seen)) == 1797


def test_noise_on_clips_has_the_given_ratio_and_leaves_the_rest() -> None:
    clean, noisy = Digits(modalities=FIVE, pairings=2), Digits(modalities=FIVE, pairings=2, audio_noise=5.0)
    for split in SPLITS:
        ratios = []
        for a, b in zip(getattr(clean, split), getattr(noisy, split), strict=True):
            assert all(content(a[m]) == content(b[m]) for m in FIVE if m != "audio")
            signal, heard = a["audio"][0].astype(float), b["audio"][0].astype(float)
            assert b["audio"][0].dtype == np.float32
            assert abs(heard).max() <= 1
            noise = heard * (signal @ signal) / (heard @ signal) - signal
            ratios.append(10 * np.log10((signal**2).mean() / (noise**2).mean()))
        assert np.mean(ratios) == pytest.approx(5, abs=0.05)
        assert np.std(ratios) < 0.5
    assert len(set(column(clean, "audio"))) <= 900 < len(clean.train)
    assert len(set(column(noisy, "audio"))) == len(noisy.train)  # no two rows have the same noise


def test_clips_begin_at_random_within_the_silence_around_them() -> None:
    clean, moved = Digits(modalities=FIVE, pairings=2), Digits(modalities=FIVE, pairings=2, audio_offset=0.1)
    for split in SPLITS:
        before = []
        for a, b in zip(getattr(clean, split), getattr(moved, split), strict=True):
            assert all(content(a[m]) == content(b[m]) for m in FIVE if m != "audio")
            signal, heard = a["audio"][0], b["audio"][0]
            assert len(heard) == len(signal) + 800
            offset = int(np.flatnonzero(heard)[0] - np.flatnonzero(signal)[0])
            assert np.array_equal(heard[offset : offset + len(signal)], signal)
            assert np.count_nonzero(heard) == np.count_nonzero(signal)
            before.append(offset)
        assert min(before) < 20
        assert max(before) > 780
        assert abs(np.mean(before) - 400) < 5 * 800 / np.sqrt(12 * len(before))


def test_strokes_keep_their_first_part() -> None:
    whole, part = Digits(modalities=FIVE), Digits(modalities=FIVE, strokes_part=0.5)
    for a, b in zip(whole.test, part.test, strict=True):
        assert all(content(a[m]) == content(b[m]) for m in FIVE if m != "strokes")
        assert len(b["strokes"]) == -(-len(a["strokes"]) // 2)
        assert np.array_equal(b["strokes"], a["strokes"][: len(b["strokes"])])
    assert min(len(row["strokes"]) for row in Digits(modalities=("strokes",), strokes_part=1e-6).test) == 1


def made(folder: Path, **changes: Any) -> str:
    """Write a file of 60 rows in which clip i is 10 + i samples of height i + 1."""
    n = 60
    arrays: dict[str, Any] = {
        "image": np.random.default_rng(0).integers(0, 256, (n, 5, 5), dtype=np.uint8),
        "audio": np.repeat(np.arange(1, n + 1, dtype=np.int16)[:, None] * 256, 80, 1),
        "audio_length": np.arange(n) + 10,
        "label": np.arange(n) % 3,
        "fold": np.arange(n) // 3 % 5,
        "sample_rate": np.int64(4000),
    }
    arrays = {k: v for k, v in (arrays | changes).items() if v is not None}
    np.savez(folder / "mine.npz", **arrays)
    return str(folder)


def owners(rows: Any) -> list[int]:
    """Which row of the file each clip belongs to, by its height and by its length."""
    heights = [round(float(row["audio"][0][0]) * 2**15 / 256) - 1 for row in rows]
    assert heights == [len(row["audio"][0]) - 10 for row in rows]
    return heights


def test_a_file_brings_its_own_pairs(tmp_path: Path) -> None:
    data = Digits(modalities=("image", "audio", "text"), path=made(tmp_path), validation=0.25)
    with np.load(tmp_path / "mine.npz") as arrays:
        rows = {x.tobytes(): i for i, x in enumerate(arrays["image"])}
        fold = arrays["fold"]
    for split in SPLITS:
        own = [rows[image] for image in column(data, "image", split)]
        assert owners(getattr(data, split)) == own
        assert set(fold[own]) <= ({4} if split == "test" else {0, 1, 2, 3})
        assert all(i % 3 in meaning(text) for i, text in zip(own, column(data, "text", split), strict=True))
    assert data.test[0]["audio"][1] == 4000
    assert data.test[0]["audio"][0].dtype == np.float32


def test_the_rate_and_the_fold_of_a_file(tmp_path: Path) -> None:
    path = made(tmp_path, sample_rate=None, label=None)
    data = Digits(modalities=("audio",), path=path, fold=2)
    assert data.test[0]["audio"][1] == 8000
    assert {i // 3 % 5 for i in owners(data.test)} == {2}
    assert {i // 3 % 5 for i in owners([*data.train, *data.validation])} == {0, 1, 3, 4}
    with pytest.raises(DataError, match=r"fold 5(.|\n)*\[0, 1, 2, 3, 4\]"):
        len(Digits(modalities=("audio",), path=path, fold=5).train)


def test_further_pairings_of_a_file_exchange_clips_among_training_rows_of_a_label(tmp_path: Path) -> None:
    path = made(tmp_path)
    data = Digits(modalities=("image", "audio", "label"), path=path, validation=0.25, pairings=3)
    own = owners(data.train[: len(data.train) // 3])
    turns = np.array(owners(data.train)).reshape(3, -1)
    for turn in turns:
        assert sorted(turn) == sorted(own)  # nothing of validation or test rows
        assert (turn % 3 == np.array(own) % 3).all()
    assert (turns[0] != turns[1]).all()
    assert (turns[1] != turns[2]).all()
    assert (turns[0] != turns[2]).all()
    alone = Digits(modalities=("image", "audio", "label"), path=path, validation=0.25)
    for split in SPLITS:
        assert owners(getattr(alone, split)) == owners(getattr(data, split))[: len(getattr(alone, split))]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio": None}, r"lacks an array(.|\n)*'audio'"),
        ({"audio_length": None}, r"lacks an array(.|\n)*'audio_length'"),
        ({"audio": np.zeros((60, 80), np.float32)}, r"int16 \[60 any\](.|\n)*float32"),
        ({"audio": np.zeros((59, 80), np.int16)}, r"int16 \[60 any\](.|\n)*\[59, 80\]"),
        ({"audio_length": np.full(60, 81)}, "1 to 80 samples of audio"),
        ({"audio_length": np.zeros(60, int)}, "1 to 80 samples of audio"),
        ({"audio_length": np.full(60, 7.0)}, r"'audio_length'(.|\n)*integer(.|\n)*float64"),
        ({"sample_rate": np.int64(0)}, "sample rate"),
        ({"sample_rate": np.array([8000])}, r"'sample_rate'(.|\n)*integer \[\]"),
        ({"label": None}, r"lacks an array(.|\n)*'label'"),
        ({"label": np.arange(60)}, r"0 to 9(.|\n)*0 to 59"),
        ({"label": np.arange(60) % 3 - 1}, r"0 to 9(.|\n)*-1 to 1"),
    ],
)
def test_errors_say_what_does_not_fit(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        len(Digits(modalities=("audio", "text"), path=made(tmp_path, **changes)).train)
