import pytest
import torch
from torch.testing import assert_close

from fusion_engine import Features, FusionError, Noise, Signal, Widths
from fusion_engine_tabular.mlp import MLPDecoder, MLPEncoder, MLPGenerator
from fusion_engine_tabular.number import Number

ACTS = {
    "relu": lambda x: x * (x > 0),
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.2 * x),
    "gelu": lambda x: x * torch.special.ndtr(x),
    "silu": lambda x: x / (1 + torch.exp(-x)),
}


def by_hand(body, x, act, last):
    """Multiply matrices in turn, from the parameters alone."""
    pairs = list(zip(*[iter(body.parameters())] * 2, strict=True))
    for i, (weight, bias) in enumerate(pairs):
        x = x @ weight.T + bias
        x = act(x) if i < len(pairs) - 1 or last else x
    return x


@pytest.fixture
def numbers():
    torch.manual_seed(0)
    return Number(centre=[0.0, 0.0], deviation=[1.0, 1.0])


@pytest.mark.parametrize("activation", ACTS)
def test_encoder_activates_every_layer(numbers, activation):
    encoder = MLPEncoder(numbers, widths=[7, 5, 3], activation=activation)
    assert [p.shape[0] for p in encoder.parameters() if p.ndim == 2] == [7, 5, 3]
    assert encoder.widths == Widths(3, 3)
    x = torch.randn(4, 2)
    assert_close(encoder(Signal(x)).pooled, by_hand(encoder.body, x, ACTS[activation], last=True))


@pytest.mark.parametrize("activation", ACTS)
def test_decoder_and_generator_end_linear_and_take_conditions(numbers, activation):
    decoder = MLPDecoder(3, numbers, {"by": Widths(6, 4)}, widths=[7, 5], activation=activation, scale=0.3)
    generator = MLPGenerator(3, numbers, {"by": Widths(6, 4)}, widths=[7, 5], activation=activation)
    generator.load_state_dict(decoder.state_dict())
    z, by = torch.randn(6, 4, 3), torch.randn(4, 4)
    conditions = {"by": Features.of_pooled(by)}
    expected = by_hand(decoder.body, torch.cat([z, by.expand(6, 4, 4)], -1), ACTS[activation], last=False)
    assert_close(decoder(z, conditions).mean.data, expected)
    assert_close(generator(z, conditions).mean.data, expected)
    x = torch.randn(4, 2)
    density = -((x - expected) ** 2) / (2 * 0.3**2) - torch.log(torch.tensor(0.3) * (2 * torch.pi) ** 0.5)
    assert_close(decoder(z, conditions).log_prob(Signal(x)), density.sum(-1))


def test_a_generator_has_samples_and_no_density(numbers):
    generator = MLPGenerator(3, numbers)
    assert not generator.density
    made = generator(torch.randn(5, 3), {})
    assert_close(made.sample(Noise.of(5)).data, made.mean.data)
    with pytest.raises(FusionError, match="no density"):
        made.log_prob(Signal(torch.zeros(5, 2)))
