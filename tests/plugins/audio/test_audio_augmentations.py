"""Augmentations of sounds against loops over frames, bands and samples."""

import math

import pytest
import torch

from fusion_engine import ConfigError, Noise
from fusion_engine_audio.augmentations import (
    frequency_mask,
    gain,
    shift,
    spectrogram_gain,
    spectrogram_shift,
    time_mask,
)
from fusion_engine_audio.mel import Mel
from fusion_engine_audio.waveform import Waveform

NOISE = Noise.of(60, 3)


def draws(*shape):
    return torch.randn(60, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).abs() + 1


def moved(row, by):
    """Frame by frame."""
    out = torch.zeros_like(row)
    for i in range(len(row)):
        if 0 <= i - by < len(row):
            out[i] = row[i - by]
    return out


@pytest.mark.parametrize(("function", "x"), [(shift, draws(24)), (spectrogram_shift, draws(24, 5))])
def test_shifts_go_up_to_an_eighth_of_the_duration_with_zeros_behind(function, x):
    found = set()
    for one, other in zip(x, function(x, NOISE), strict=True):
        (by,) = [s for s in range(-3, 4) if torch.equal(other, moved(one, s))]
        found.add(by)
    assert found == set(range(-3, 4))


@pytest.mark.parametrize("axis", [0, 1])
def test_masks_cover_up_to_a_quarter_side_by_side_and_leave_the_rest(axis):
    x = draws(16, 20)
    found = (time_mask, frequency_mask)[axis](x, NOISE)
    widths, places = set(), set()
    for one, other in zip(x, found, strict=True):
        gone = (other == 0).all(1 - axis)
        at = gone.nonzero()[:, 0].tolist()
        assert at == list(range(at[0], at[-1] + 1)) if at else True
        assert torch.equal(other, one.masked_fill(gone[:, None] if axis == 0 else gone[None, :], 0.0))
        widths.add(len(at))
        places.update(at)
    assert widths == set(range((16, 20)[axis] // 4 + 1))
    assert places == set(range((16, 20)[axis]))


def test_gains_are_up_to_twice_as_loud_or_quiet_in_their_own_units():
    u = 2 * NOISE.uniform().double() - 1
    x = draws(7)
    for i, row in enumerate(gain(x, NOISE)):
        torch.testing.assert_close(row, x[i] * 2 ** u[i])
    log = draws(4, 3)
    mel = Mel(centre=-5.0, deviation=1.6)
    for i, row in enumerate(spectrogram_gain(log, NOISE, 1.6)):
        louder = ((log[i] * mel.deviation + mel.centre).exp() * 2 ** u[i]).log()  # the same in units of the magnitude
        torch.testing.assert_close(row, (louder - mel.centre) / mel.deviation)
    assert float((u * math.log(2)).abs().max()) > 0.6


@pytest.mark.parametrize("modality", [Mel(), Waveform(seconds=0.01)])
def test_gradients_are_right_once_and_twice_and_names_are_checked(modality):
    small = modality.example(2).map(lambda x: x[:, :9].double())
    noise = Noise.of(2, 8)
    for name in modality.augmentations:

        def squared(x, name=name):
            return modality.augment(type(small)(x), name, noise).data ** 2

        x = small.data[..., :5].clone().requires_grad_() if small.data.ndim == 3 else small.data.requires_grad_()
        assert torch.autograd.gradcheck(squared, x)
        assert torch.autograd.gradgradcheck(squared, x)
    with pytest.raises(ConfigError, match="no augmentation 'masks'"):
        modality.augment(small, "masks", noise)
