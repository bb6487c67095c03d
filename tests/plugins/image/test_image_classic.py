"""The classic networks: multilayer perceptrons and DCGAN's strided convolutions."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, leaky_relu, pad

from fusion_engine import Features, Signal, Widths
from fusion_engine_image.dcgan import DCGANDecoder, DCGANEncoder, stages_of
from fusion_engine_image.mlp import MLPDecoder, MLPEncoder
from fusion_engine_image.modality import Image

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 5, 7), (2, 1, 1), (3, 9, 33)]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def fitted() -> Image:
    rng = np.random.default_rng(0)
    blank = Image(size=(6, 5))
    return Image(**blank.fit([rng.integers(0, 256, (6, 5), dtype=np.uint8) for _ in range(9)]), size=(6, 5))


def test_the_bounds_of_images_are_their_raw_range_prepared():
    modality = fitted()
    for value, bound in zip((0, 255), modality.bounds, strict=True):
        prepared = modality.prepare(np.full((6, 5), value, np.uint8)).data
        torch.testing.assert_close(prepared, torch.full((1, 6, 5), bound))
    assert Image().bounds is None


@pytest.mark.parametrize("kind", [MLPDecoder, DCGANDecoder])
def test_tanh_reaches_the_bounds_and_never_leaves_them(kind):
    modality = fitted()
    decoder = kind(3, modality, widths=[8])
    images = decoder(1e4 * torch.randn(40, 3), {}).mean.data
    low, high = modality.bounds
    assert float(images.min()) == pytest.approx(low, abs=1e-4)
    assert float(images.max()) == pytest.approx(high, abs=1e-4)
    linear = kind(3, modality, widths=[8], output="linear")(1e4 * torch.randn(40, 3), {}).mean.data
    assert float(linear.abs().max()) > 10 * max(-low, high)
    assert kind(3, Image(shape=(1, 8, 8)), widths=[8])(1e4 * torch.randn(40, 3), {}).mean.data.abs().max() < 1 + 1e-6


def test_the_perceptrons_are_chains_of_matrices():
    modality = Image(shape=(2, 3, 4))
    encoder, decoder = MLPEncoder(modality, widths=[7, 5]), MLPDecoder(4, modality, widths=[6, 8], output="linear")
    x, z = modality.example(3), torch.randn(2, 3, 4)
    linears = [m for m in encoder.body if isinstance(m, nn.Linear)]
    expected = x.data.flatten(1)
    for m in linears:
        expected = leaky_relu(expected @ m.weight.T + m.bias, 0.2)
    features = encoder(x)
    assert [m.out_features for m in linears] == [7, 5]
    assert features.widths == encoder.widths == Widths(5, 5)
    torch.testing.assert_close(features.pooled, expected)
    (first, second, last) = (m for m in decoder.body if isinstance(m, nn.Linear))
    hidden = leaky_relu(leaky_relu(z @ first.weight.T + first.bias, 0.2) @ second.weight.T + second.bias, 0.2)
    expected = (hidden @ last.weight.T + last.bias).reshape(2, 3, 2, 3, 4)
    torch.testing.assert_close(decoder(z, {}).mean.data, expected)


def test_the_classic_widths_are_the_defaults():
    modality = Image(shape=(1, 28, 28))
    sizes = [[m.in_features, m.out_features] for m in MLPDecoder(100, modality).modules() if isinstance(m, nn.Linear)]
    assert sizes == [[100, 256], [256, 512], [512, 1024], [1024, 784]]
    sizes = [[m.in_features, m.out_features] for m in MLPEncoder(modality).modules() if isinstance(m, nn.Linear)]
    assert sizes == [[784, 1024], [1024, 512], [512, 256]]


def test_at_64_pixels_the_grids_are_the_papers():
    modality = Image(shape=(3, 64, 64))
    decoder, encoder = DCGANDecoder(100, modality), DCGANEncoder(modality)
    ups = [(m.in_channels, m.out_channels) for m in decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    downs = [(m.in_channels, m.out_channels) for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert ups == [(512, 256), (256, 128), (128, 64), (64, 3)]
    assert downs == [(3, 64), (64, 128), (128, 256), (256, 512)]
    assert encoder(modality.example(1)).tokens.shape == (1, 16, 512)
    assert stages_of([4, 6], 4) == [4, 6, 6, 6]
    assert not [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    normed = DCGANDecoder(100, modality, batch_norm=True), DCGANEncoder(modality, batch_norm=True)
    assert [sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) for net in normed] == [4, 3]


@pytest.mark.parametrize("shape", SHAPES)
def test_any_size_is_halved_and_doubled(shape):
    modality = Image(shape=shape)
    encoder, decoder = DCGANEncoder(modality, widths=[4, 6], pooled=5), DCGANDecoder(3, modality, widths=[4, 6])
    signal = modality.example(3)
    features = encoder(signal)
    assert features.widths == encoder.widths
    assert features.position.shape == (*features.tokens.shape[:2], 2)
    torch.testing.assert_close(encoder(signal.take(torch.tensor([1]))).pooled, features.pooled[1:2])
    assert decoder(torch.randn(2, 3, 3), {}).mean.data.shape == (2, 3, *shape)


def test_the_encoder_is_a_chain_of_convolutions_of_the_padded_image():
    modality = Image(shape=(2, 10, 13))
    encoder = DCGANEncoder(modality, widths=[3, 4], pooled=5)
    x = modality.example(2).data
    hidden = pad(x, (0, 3, 0, 2))  # two halvings: multiples of four
    for m in (m for m in encoder.body if isinstance(m, nn.Conv2d)):
        hidden = leaky_relu(conv2d(hidden, m.weight, m.bias, stride=2, padding=1), 0.2)
    features = encoder(Signal(x))
    torch.testing.assert_close(features.tokens, hidden.flatten(2).mT)
    flat = features.tokens.flatten(1)
    torch.testing.assert_close(features.pooled, flat @ encoder.pool.weight.T + encoder.pool.bias)


def test_without_batch_norm_kernels_keep_the_second_moment():
    """E x² behind activation and convolution is what it was: at the inner pixels, which see no border."""
    modality = Image(shape=(64, 32, 32))
    down = next(m for m in DCGANEncoder(modality, widths=[256]).modules() if isinstance(m, nn.Conv2d))
    up = next(m for m in DCGANDecoder(4, modality, widths=[256]).modules() if isinstance(m, nn.ConvTranspose2d))
    assert up.in_channels == 256
    x = torch.randn(8, 64, 32, 32)
    y = down(leaky_relu(x, 0.2))[:, :, 1:-1, 1:-1]
    assert float(y.square().mean()) == pytest.approx(1, rel=0.1)
    y = up(torch.randn(8, 256, 16, 16).relu())[:, :, 2:-2, 2:-2]
    assert float(y.square().mean()) == pytest.approx(1, rel=0.1)
    normed = next(m for m in DCGANDecoder(4, modality, widths=[256], batch_norm=True).modules() if hasattr(m, "stride"))
    assert float(normed.weight.std()) == pytest.approx(0.02, rel=0.05)


def test_conditions_join_the_noise():
    modality = Image(shape=(1, 8, 8))
    for kind in (MLPDecoder, DCGANDecoder):
        decoder = kind(2, modality, {"label": Widths(3, 3)}, widths=[8])
        z = torch.randn(4, 2)
        label = Features.of_pooled(torch.randn(4, 3))
        whole = decoder(z, {"label": label}).mean.data
        other = decoder(z, {"label": Features.of_pooled(torch.randn(4, 3))}).mean.data
        assert float((whole - other).abs().amax((1, 2, 3)).min()) > 1e-4


def test_batch_norm_makes_each_channel_of_a_batch_normal_in_training():
    modality = Image(shape=(1, 16, 16))
    decoder = DCGANDecoder(5, modality, widths=[4, 6], batch_norm=True)
    seen: list[torch.Tensor] = []
    for m in decoder.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.register_forward_hook(lambda _, __, out: seen.append(out))
    decoder.train()(torch.randn(3, 16, 5), {})  # sample axes are folded into the rows
    for out in seen:
        assert out.shape[0] == 48
        torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(out.shape[1]), atol=1e-5, rtol=0)
        assert math.isclose(float(out.var((0, 2, 3), unbiased=False).mean()), 1, rel_tol=0.05)
