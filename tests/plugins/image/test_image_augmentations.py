"""Augmentations of images against loops over pixels."""

import pytest
import torch

from fusion_engine import ConfigError, Noise, Signal
from fusion_engine_image.augmentations import AUGMENTATIONS, colour, cutout, translation
from fusion_engine_image.modality import Image

NOISE = Noise.of(40, 3)


def images(b=40, c=3, h=8, w=12):
    return torch.randn(b, c, h, w, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_colour_is_brightness_then_saturation_of_three_channels_then_contrast(channels):
    x, u = images(c=channels), NOISE.uniform(3).double()
    found = colour(x, NOISE)
    for i in range(len(x)):
        expected = x[i] + 2 * u[i, 0] - 1
        if channels == 3:
            grey = (expected[0] + expected[1] + expected[2]) / 3
            expected = torch.stack([(band - grey) * 2 * u[i, 1] + grey for band in expected])
        mean = expected.sum() / expected.numel()
        torch.testing.assert_close(found[i], (expected - mean) * (u[i, 2] + 0.5) + mean)


def test_translation_is_a_shift_by_up_to_an_eighth_with_zeros_behind():
    x = images(h=16, w=24)
    found, shifts = translation(x, NOISE), set()
    for one, other in zip(x, found, strict=True):
        fits = [(dy, dx) for dy in range(-2, 3) for dx in range(-3, 4) if torch.equal(other, moved(one, dy, dx))]
        assert len(fits) == 1
        shifts.update(fits)
    assert {dy for dy, _ in shifts} == {-2, -1, 0, 1, 2}
    assert {dx for _, dx in shifts} == {-3, -2, -1, 0, 1, 2, 3}


def moved(image, dy, dx):
    """Pixel by pixel."""
    _, h, w = image.shape
    out = torch.zeros_like(image)
    for i in range(h):
        for j in range(w):
            if 0 <= i - dy < h and 0 <= j - dx < w:
                out[:, i, j] = image[:, i - dy, j - dx]
    return out


def test_cutout_sets_a_box_of_half_of_each_side_to_zero_which_the_border_may_cut():
    x = images(b=300).abs() + 1
    found = cutout(x, Noise.of(300, 3))
    sizes = set()
    for one, other in zip(x, found, strict=True):
        gone = other[0] == 0
        rows, columns = gone.any(1).nonzero()[:, 0].tolist(), gone.any(0).nonzero()[:, 0].tolist()
        assert rows == list(range(rows[0], rows[-1] + 1))
        assert columns == list(range(columns[0], columns[-1] + 1))
        assert int(gone.sum()) == len(rows) * len(columns)
        assert torch.equal(other, one.masked_fill(gone, 0.0))
        assert len(rows) == 4 or rows[0] == 0 or rows[-1] == 7
        assert len(columns) == 6 or columns[0] == 0 or columns[-1] == 11
        sizes.add((len(rows), len(columns)))
    assert max(sizes) == (4, 6)
    assert min(r for r, _ in sizes) == 2  # its centre lies within the image, or on its far edge
    assert min(c for _, c in sizes) == 3


def test_an_odd_box_has_its_centre_within_the_image():
    centres = set()
    for one in cutout(images(b=200, c=1, h=6, w=6).abs() + 1, Noise.of(200, 4)):
        rows = (one[0] == 0).any(1).nonzero()[:, 0].tolist()
        centres.add(0 if len(rows) == 2 and rows[0] == 0 else rows[0] + 1)
    assert centres == {0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_gradients_are_right_once_and_twice(name):
    x = images(b=3, h=4, w=5).requires_grad_()
    noise = Noise.of(3, 8)
    assert torch.autograd.gradcheck(lambda x: AUGMENTATIONS[name](x, noise) ** 2, x)
    assert torch.autograd.gradgradcheck(lambda x: AUGMENTATIONS[name](x, noise) ** 2, x)


def test_the_modality_offers_them_by_name_and_refuses_others_in_words():
    image = Image(shape=(3, 8, 8))
    signal = image.example(4)
    noise = Noise.of(4, 2)
    for name in image.augmentations:
        assert torch.equal(image.augment(signal, name, noise).data, AUGMENTATIONS[name](signal.data, noise))
    with pytest.raises(ConfigError, match=r"(?s)no augmentation 'cut'.*cutout"):
        image.augment(Signal(signal.data), "cut", noise)
