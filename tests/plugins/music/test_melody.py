"""Melodies as a modality: from notes to tensors and to sounds."""

import io

import numpy as np
import PIL.Image
import pytest
import soundfile
import torch

from fusion_engine import DataError, DistributionLikelihood, Noise, Signal
from fusion_engine_music.melody import Melody
from fusion_engine_music.sound import RATE, SECONDS_PER_BEAT

MODALITY = Melody(length=4, low=60, high=64)
TUNE = [[60, 0.5], [0, 1], [64, 2]]


def test_a_melody_becomes_one_hot_pitches_and_log_beats():
    signal = MODALITY.prepare(TUNE)
    wanted = [[0, 1, 0, 0, 0, 0, -1], [1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1]]
    assert signal.data.tolist() == wanted
    assert signal.mask.all()
    assert MODALITY.channels == 7
    assert MODALITY.binary == (0, 1, 2, 3, 4, 5)
    assert MODALITY.restore(MODALITY.collate([signal]))[0].tolist() == TUNE


def test_it_learns_length_and_range():
    other = [[67, 1], [55, 1], [0, 1], [60, 1]]
    assert Melody().fit([TUNE, other]) == {"length": 4, "low": 55, "high": 67}
    assert Melody(low=50).fit([TUNE, other])["low"] == 50


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ([[60, 1]] * 5, "at most 4"),
        ([[65, 1]], "60 to 64"),
        ([[60.5, 1]], "whole pitches"),
        ([[60, 0]], "beats above 0"),
        ([[60, float("nan")]], "positive beats"),
        ([], "shape"),
        ([60, 61], "shape"),
        ("doh", "pitch and beats"),
    ],
)
def test_what_is_no_melody_is_refused(raw, words):
    with pytest.raises(DataError, match=words):
        MODALITY.prepare(raw)


def test_rests_alone_teach_nothing():
    with pytest.raises(DataError, match="no notes"):
        Melody().fit([[[0, 1]]])


def test_a_relaxed_melody_has_one_pitch_a_step_and_the_gradient_of_the_shares():
    p = torch.tensor([[[0.2, 0.1, 0.5, 0.1, 0.05, 0.05, 0.3]] * 4]).requires_grad_()
    normal = DistributionLikelihood(torch.distributions.Normal(p, 1.0))
    like = Signal(torch.zeros(1, 4, 7), torch.tensor([[True, True, True, False]]))
    found = MODALITY.relax(normal, Noise.of(1), like)
    assert found.data[0, 0].tolist() == pytest.approx([0, 0, 1, 0, 0, 0, 0.3])
    assert (found.data[0, 3] == 0).all()
    weight = torch.randn(7, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((found.data[0, 0] * weight).sum(), p)
    q = p.detach()[0, 0, :6].clone().requires_grad_()
    (wanted,) = torch.autograd.grad(((q / (1 - q) / (q / (1 - q)).sum()) * weight[:6]).sum(), q)
    torch.testing.assert_close(gradient[0, 0, :6], wanted)
    assert float(gradient[0, 0, 6]) == pytest.approx(float(weight[6]))


def test_each_note_sounds_at_its_pitch_for_its_time():
    """A4 is 440 Hz, C4 261.63 and E5 659.26; the rest between is silent."""
    tune = [[69, 1], [60, 0.5], [0, 1], [76, 2]]
    modality = Melody(length=4, low=60, high=76)
    (media,) = modality.render(modality.collate([modality.prepare(tune)]))
    sound, rate = soundfile.read(io.BytesIO(media.content))
    assert (media.mime, rate) == ("audio/wav", RATE)
    ends = np.rint(np.cumsum([beats for _, beats in tune]) * SECONDS_PER_BEAT * RATE).astype(int)
    assert len(sound) == ends[-1]
    parts = np.split(sound, ends[:-1])
    for part, hertz in zip(parts, [440.0, 261.63, None, 659.26], strict=True):
        if hertz is None:
            assert not part.any()
            continue
        spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 8 * RATE))
        assert spectrum.argmax() / 8 == pytest.approx(hertz, abs=0.5)
        assert np.abs(part).max() == pytest.approx(0.5, abs=0.01)


def test_a_piano_roll_has_a_bar_a_note():
    (media,) = MODALITY.render(MODALITY.collate([MODALITY.prepare(TUNE)]))
    page = np.asarray(PIL.Image.open(io.BytesIO(media.picture)))[4::8, 4::8]
    wanted = np.full((5, 14), 255)
    wanted[4, :2] = wanted[0, 6:] = 40  # C at the bottom for half a beat, E at the top for two
    assert np.array_equal(page, wanted)
