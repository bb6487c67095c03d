import math

import pytest
import torch
from torch import nn

from fusion_engine import Features, Noise, Signal, Widths
from fusion_engine_image.blocks import ResidualBlock
from fusion_engine_image.conv_decoder import ConvDecoder
from fusion_engine_image.conv_encoder import ConvEncoder
from fusion_engine_image.modality import Image

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 5, 7), (2, 1, 1), (3, 9, 33)]


def perturb(module: nn.Module) -> None:
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.05 * torch.randn_like(p))


@pytest.mark.parametrize("shape", SHAPES)
def test_features_are_as_declared_and_rows_independent(shape):
    torch.manual_seed(0)
    modality = Image(shape=shape)
    encoder = ConvEncoder(modality, width=12, pooled=20, channels=4)
    perturb(encoder)
    signal = modality.example(3)
    features = encoder(signal)
    assert features.widths == encoder.widths == Widths(12, 20)
    assert features.position.shape == (*features.tokens.shape[:2], 2)
    one = encoder(signal.take(torch.tensor([1])))
    torch.testing.assert_close(one.pooled, features.pooled[1:2])
    torch.testing.assert_close(one.tokens, features.tokens[1:2])


def test_position_says_where_a_token_looks():
    torch.manual_seed(0)
    modality = Image(shape=(1, 8, 16))
    encoder = ConvEncoder(modality, channels=4)
    x = torch.zeros(1, 1, 8, 16)
    changed = x.clone()
    changed[0, 0, 7, 15] = 1.0  # the last corner lies in the field of the last cell alone, while blocks are identities
    features, other = encoder(Signal(x)), encoder(Signal(changed))
    moved = (features.tokens != other.tokens).any(-1)[0]
    assert moved.tolist() == [False] * 31 + [True]
    torch.testing.assert_close(features.position[0, moved], torch.tensor([[1 - 1 / 4, 1 - 1 / 8]]))
    assert features.position[0, 1].tolist() == [-1 + 1 / 4, -1 + 3 / 8]


def test_nothing_normalises_and_blocks_start_as_identity():
    encoder = ConvEncoder(Image(shape=(1, 8, 8)))
    assert not [m for m in encoder.modules() if "norm" in type(m).__name__.lower()]
    x = torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ResidualBlock(6)(x), x)


def test_every_parameter_learns():
    torch.manual_seed(0)
    modality = Image(shape=(1, 8, 8))
    encoder, decoder = ConvEncoder(modality), ConvDecoder(4, modality)
    perturb(encoder)
    perturb(decoder)
    signal = modality.example(4)
    encoder(signal).pooled.square().sum().backward()
    decoder(torch.randn(4, 4), {}).log_prob(signal).sum().backward()
    for name, p in [*encoder.named_parameters(), *decoder.named_parameters()]:
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


def test_gradient_of_the_gradient_penalty_agrees_with_finite_differences():
    torch.manual_seed(0)
    modality = Image(shape=(1, 8, 8))
    encoder = ConvEncoder(modality, channels=4).double()
    perturb(encoder)
    x = modality.example(2).data.double()
    parameters = list(encoder.parameters())
    direction = [torch.randn_like(p) for p in parameters]

    def penalty() -> torch.Tensor:
        inputs = x.clone().requires_grad_()
        score = encoder(Signal(inputs)).pooled.square().sum()
        return torch.autograd.grad(score, inputs, create_graph=True)[0].square().sum()

    grads = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    exact = sum((g * d).sum() for g, d in zip(grads, direction, strict=True) if g is not None)

    def moved(step: float) -> float:
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(step * d)
        value = penalty().item()
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.sub_(step * d)
        return value

    step = 1e-7
    assert (moved(step) - moved(-step)) / (2 * step) == pytest.approx(exact.item(), rel=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_sample_axes_pass_through_the_decoder(shape):
    torch.manual_seed(0)
    decoder = ConvDecoder(5, Image(shape=shape), channels=4)
    perturb(decoder)
    z = torch.randn(2, 3, 4, 5)
    mean = decoder(z, {}).mean.data
    assert mean.shape == (2, 3, 4, *shape)
    by_hand = torch.stack([torch.stack([decoder(row, {}).mean.data for row in plane]) for plane in z])
    torch.testing.assert_close(mean, by_hand)


def test_log_prob_is_that_of_a_normal_distribution():
    torch.manual_seed(0)
    modality = Image(shape=(2, 5, 6))
    decoder = ConvDecoder(3, modality, channels=4, scale=0.5)
    x = modality.example(2)
    likelihood = decoder(torch.randn(3, 2, 3), {})
    mean = likelihood.mean.data
    per_value = -0.5 * ((x.data - mean) / 0.5) ** 2 - math.log(0.5) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(likelihood.log_prob(x), per_value.sum((-1, -2, -3)))
    noise = Noise.of(2)
    torch.testing.assert_close(likelihood.sample(noise).data, mean + 0.5 * noise.normal(2, 5, 6, lead=(3,)))


def test_conditions_join_the_latent():
    torch.manual_seed(0)
    modality = Image(shape=(1, 8, 8))
    decoder = ConvDecoder(3, modality, {"label": Widths(2, 4)})
    plain = ConvDecoder(7, modality)
    plain.load_state_dict(decoder.state_dict())
    z, label = torch.randn(2, 3), torch.randn(2, 4)
    got = decoder(z, {"label": Features.of_pooled(label)}).mean.data
    torch.testing.assert_close(got, plain(torch.cat([z, label], 1), {}).mean.data)
