"""Augmentations of sequences against loops over rows and steps."""

import math

import pytest
import torch

from fusion_engine import ConfigError, Noise, Signal
from fusion_engine_sequence.modality import Series
from fusion_engine_sequence.strokes import Strokes

B = 50
NOISE = Noise.of(B, 4)
SERIES = Series(channels=4, length=16, binary=[1])
STROKES = Strokes(length=16)


def example(modality):
    """Ragged rows in double precision, whose padding is NaN."""
    signal = modality.example(B)
    data = signal.data.double().masked_fill(~signal.mask[..., None], torch.nan)
    return Signal(data, signal.mask)


def augmented(modality, name):
    signal = example(modality)
    found = modality.augment(signal, name, NOISE)
    assert torch.equal(found.mask, signal.mask)
    assert bool(found.data[~signal.mask].isnan().all())
    for i in modality.binary:
        assert torch.equal(found.data[signal.mask][:, i], signal.data[signal.mask][:, i])
    rows = [(x[m], y[m]) for x, y, m in zip(signal.data, found.data, signal.mask, strict=True)]
    return rows, [i for i in range(modality.channels) if i not in modality.binary]


def centred(*shape):
    return 2 * NOISE.uniform(*shape).double() - 1


def test_gain_multiplies_each_continuous_channel():
    rows, channels = augmented(SERIES, "gain")
    for i, (before, after) in enumerate(rows):
        for c in channels:
            torch.testing.assert_close(after[:, c], before[:, c] * 1.25 ** centred(4)[i, c])


def test_spans_of_up_to_a_quarter_of_the_valid_steps_become_zero():
    rows, channels = augmented(SERIES, "span")
    seen = set()
    for before, after in rows:
        gone = (after[:, channels] == 0).all(1)
        at = gone.nonzero()[:, 0].tolist()
        assert not at or at == list(range(at[0], at[-1] + 1))
        assert len(at) <= len(before) // 4
        assert torch.equal(after[~gone], before[~gone])
        seen.add(len(at))
    assert seen == {0, 1, 2, 3, 4}


def test_a_drawing_is_scaled_turned_and_moved_as_a_whole():
    rows, _ = augmented(STROKES, "scale")
    for i, (before, after) in enumerate(rows):
        torch.testing.assert_close(after[:, :2], before[:, :2] * 1.25 ** centred()[i])
    rows, _ = augmented(STROKES, "rotation")
    for i, (before, after) in enumerate(rows):
        point = torch.view_as_complex(before[:, :2].contiguous())
        turn = torch.exp(1j * centred()[i] * math.radians(15))
        torch.testing.assert_close(after[:, :2], torch.view_as_real(point * turn))
    rows, _ = augmented(STROKES, "translation")
    for i, (before, after) in enumerate(rows):
        torch.testing.assert_close(after[:, :2] - before[:, :2], (centred(3)[i, :2] / 4).expand(len(before), 2))


@pytest.mark.parametrize("modality", [SERIES, STROKES])
def test_gradients_are_right_once_and_twice_and_names_are_checked(modality):
    signal = modality.example(3).map(lambda x: x[:, :5])
    x, noise = signal.data.double().requires_grad_(), Noise.of(3, 8)
    for name in modality.augmentations:

        def squared(x, name=name):
            return modality.augment(Signal(x, signal.mask), name, noise).data ** 2

        assert torch.autograd.gradcheck(squared, x)
        assert torch.autograd.gradgradcheck(squared, x)
    with pytest.raises(ConfigError, match="no augmentation 'jitter'"):
        modality.augment(signal, "jitter", noise)


def test_sequences_without_a_mask_are_all_valid():
    data = torch.ones(B, 16, 4)
    dropped = SERIES.augment(Signal(data), "span", NOISE).data[..., 0] == 0
    ragged = SERIES.augment(Signal(data, torch.ones(B, 16, dtype=torch.bool)), "span", NOISE).data[..., 0] == 0
    assert torch.equal(dropped, ragged)
    assert bool(dropped.any())
