"""The packaged speech, its coding, who hears which clip, and noise."""

from importlib import resources

import numpy as np
import pytest
import torch
from torchaudio.functional import mu_law_decoding, mu_law_encoding

from fusion_engine_digits.data.build_speech import HELD_OUT, VOICES, WORDS, clips, encode
from fusion_engine_digits.speech import decode, exchange, packaged_bank, with_noise

DATA = resources.files("fusion_engine_digits") / "data"
CODES = np.arange(256, dtype=np.uint8)


def test_mu_law_agrees_with_torchaudio_and_with_the_coder() -> None:
    there = mu_law_decoding(torch.from_numpy(CODES.astype(np.int64)), 256)
    np.testing.assert_allclose(decode(CODES), there, rtol=2e-5, atol=1e-8)
    np.testing.assert_array_equal(encode(decode(CODES).astype(np.float64)), CODES)
    sound = np.random.default_rng(0).uniform(-1, 1, 10_000)
    np.testing.assert_array_equal(encode(sound), mu_law_encoding(torch.from_numpy(sound), 256))


def test_mu_law_by_hand() -> None:
    assert decode(np.array([255, 0], np.uint8)).tolist() == [1.0, -1.0]
    y = 191 / 127.5 - 1  # the curve: ln(1 + 255 x) = |y| ln 256
    x = decode(np.array([191], np.uint8))[0]
    assert np.log1p(255 * x) / np.log(256) == pytest.approx(y, rel=1e-6)
    assert decode(CODES).dtype == np.float32
    assert (np.diff(decode(CODES)) > 0).all()


def test_the_bank_is_as_described() -> None:
    bank = packaged_bank()
    with resources.as_file(DATA / "speech_bank.npz") as file, np.load(file, allow_pickle=False) as arrays:
        voice, coded, offset = arrays["voice"], arrays["audio"], arrays["offset"]
        assert list(arrays["voices"]) == list(VOICES)
        drawn = np.array([(c.label, c.voice, c.accent, c.pitch) for c in clips()])
        np.testing.assert_array_equal(np.stack([arrays[k] for k in ("label", "voice", "accent", "pitch")], 1), drawn)
    assert bank.speech.rate == 8000
    assert len(bank.speech.clips) == 1200
    for i in (0, 7, 1199):
        np.testing.assert_array_equal(bank.speech.clips[i], decode(coded[offset[i] : offset[i + 1]]))
    assert max(map(len, bank.speech.clips)) <= 0.55 * 8000
    assert [abs(x).max() for x in bank.speech.clips] == pytest.approx([0.9] * 1200, abs=0.02)
    counts = np.zeros((40, 10), int)
    np.add.at(counts, (voice, bank.label), 1)
    assert (counts == 3).all()
    assert {VOICES[v] for v in voice[bank.test]} == HELD_OUT
    assert not {VOICES[v] for v in voice[~bank.test]} & HELD_OUT
    assert len(WORDS) == 10


def test_digits_can_be_told_apart_by_ear_across_voices() -> None:
    """Mean spectra in 16 slices of time, nearest centre: far above chance, so labels belong to their clips."""

    def ear(clip: np.ndarray) -> np.ndarray:
        slices = [np.abs(np.fft.rfft(s, 64))[:24] for s in np.array_split(clip, 16)]
        heard = np.log(np.array(slices) + 0.01).ravel()
        return (heard - heard.mean()) / heard.std()

    bank = packaged_bank()
    heard = np.stack([ear(c) for c in bank.speech.clips])
    centres = np.stack([heard[(bank.label == d) & ~bank.test].mean(0) for d in range(10)])
    guess = (heard[bank.test] @ centres.T).argmax(1)
    assert (guess == bank.label[bank.test]).mean() > 0.6


def test_packaged_data_stays_small() -> None:
    with resources.as_file(DATA) as folder:
        sizes = {f.name: f.stat().st_size for f in folder.iterdir() if f.is_file()}
    assert {"embedded_digits.npz", "speech_bank.npz", "README.md"} <= set(sizes)
    assert sum(sizes.values()) < 4_000_000


def test_dealing_is_even_right_and_new_each_turn() -> None:
    bank = packaged_bank()
    label, test = np.repeat(np.arange(10), 100), np.tile(np.arange(100) < 35, 10)
    turns = np.stack([bank.deal(label, test, turn, np.random.default_rng(5)) for turn in range(90)])
    assert (bank.label[turns] == label).all()
    assert (bank.test[turns] == test).all()
    for chosen in turns[:3]:
        used = np.bincount(chosen, minlength=1200)
        for held_out in (False, True):
            assert np.ptp(used[bank.test == held_out]) <= 1
    whole = np.bincount(turns[:8, ~test].ravel(), minlength=1200)[~bank.test]
    assert np.ptp(whole) <= 3
    for row in np.flatnonzero(~test)[::50]:
        assert len(set(turns[:, row])) == 90  # every clip that 30 voices offer for a digit
    other = bank.deal(label, test, 0, np.random.default_rng(6))
    assert (other != turns[0]).mean() > 0.9


def test_exchange_is_a_permutation_within_labels_of_the_given_rows() -> None:
    label = np.array([3, 3, 3, 5, 5, 3, 5, 9, 3])
    rows = np.array([0, 1, 2, 3, 4, 7])
    turns = [exchange(label, rows, turn, np.random.default_rng(1)) for turn in range(3)]
    np.testing.assert_array_equal(turns[0], np.arange(9))
    for chosen in turns[1:]:
        assert chosen[[5, 6, 8]].tolist() == [5, 6, 8]  # not among them
        assert sorted(chosen) == list(range(9))
        np.testing.assert_array_equal(label[chosen], label)
    assert (turns[1][[0, 1, 2, 3, 4]] != [0, 1, 2, 3, 4]).all()
    assert turns[1][7] == 7  # the only one of its label
    assert (turns[1][:3] != turns[2][:3]).all()


@pytest.mark.parametrize("decibels", [20.0, 0.0, -10.0])
def test_noise_has_the_given_ratio_even_where_it_is_scaled(decibels: float) -> None:
    clip = (0.9 * np.sin(np.arange(20_000) / 7)).astype(np.float32)
    noisy = with_noise(clip, decibels, np.random.default_rng(0)).astype(np.float64)
    assert abs(noisy).max() <= 1
    gain = noisy @ clip / (clip @ clip)  # the clip's share by least squares
    noise = noisy / gain - clip
    assert 10 * np.log10((clip**2).mean() / (noise**2).mean()) == pytest.approx(decibels, abs=0.15)
    spectrum = abs(np.fft.rfft(noise))[1:] ** 2
    assert spectrum[:5000].mean() == pytest.approx(spectrum[5000:].mean(), rel=0.1)  # white


def test_silence_stays_silent() -> None:
    assert not with_noise(np.zeros(10, np.float32), -20.0, np.random.default_rng(0)).any()
