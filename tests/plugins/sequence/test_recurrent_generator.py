import math
from itertools import product

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal

from fusion_engine import ConfigError, Engine, Features, Signal, Widths
from fusion_engine_sequence.likelihood import SequenceLikelihood
from fusion_engine_sequence.modality import Series
from fusion_engine_sequence.recurrent_generator import RecurrentGenerator

MODALITY = Series(channels=3, length=7, binary=(2,))


@pytest.mark.parametrize(("every", "steps", "draws"), [(1, None, 7), (3, None, 3), (2, 10, 5), (9, None, 1)])
@pytest.mark.parametrize("shared", [4, 0])
def test_it_agrees_with_a_loop_over_cells(every, steps, draws, shared):
    torch.manual_seed(0)
    z, label = torch.randn(2, shared + 2 * draws), torch.randn(2, 3)
    made = RecurrentGenerator(
        z.shape[1], MODALITY, {"label": Widths(2, 3)}, noise=2, every=every, steps=steps, cell="lstm", width=6, layers=2
    )
    cells = [nn.LSTMCell(6, 6) for _ in made.layers]
    for cell, layer in zip(cells, made.layers, strict=True):
        cell.load_state_dict({name.removesuffix("_l0"): p for name, p in layer.state_dict().items()})
    likelihood = made(z, {"label": Features.of_pooled(label)})
    states = [(torch.zeros(2, 6), torch.zeros(2, 6))] * 2
    for t in range(7):
        first = shared + 2 * (t // every)
        x = made.linear(torch.cat([z[:, :shared], label, z[:, first : first + 2]], 1)) + made.position[t]
        for i, cell in enumerate(cells):
            states[i] = cell(x, states[i])
            x = states[i][0]
        out = made.out(x)
        torch.testing.assert_close(likelihood.values[:, t], out[:, :3])
        torch.testing.assert_close(likelihood.stop[:, t], out[:, 3])


def test_a_steps_noise_changes_what_follows_and_nothing_before():
    torch.manual_seed(0)
    made = RecurrentGenerator(1 + 7, MODALITY, width=6)
    z = torch.randn(1, 8)
    for t in range(7):
        other = z.clone()
        other[0, 1 + t] += 1
        same = (made(z, {}).values == made(other, {}).values).all(-1)[0].tolist()
        assert same == [True] * t + [False] * (7 - t)


def test_noise_beyond_the_modalitys_length_is_left_unused():
    torch.manual_seed(0)
    made = RecurrentGenerator(3 + 2 * 9, MODALITY, noise=2, steps=9, width=6)
    z = torch.randn(4, 21, requires_grad=True)
    made(z, {}).values.square().sum().backward()
    assert (z.grad[:, :17] != 0).all()
    assert (z.grad[:, 17:] == 0).all()


def test_widths_that_do_not_fit_are_refused_in_words():
    with pytest.raises(ConfigError, match=r"at least 21 = 7 draws of 3") as refused:
        RecurrentGenerator(20, MODALITY, noise=3)
    assert "actual: 20" in str(refused.value)
    with pytest.raises(ConfigError, match="at least 7, the modality's length"):
        RecurrentGenerator(20, MODALITY, steps=6)
    RecurrentGenerator(21, MODALITY, noise=3)


def test_a_longer_sequence_than_there_is_noise_for_is_refused_when_data_tells():
    model = Engine().recipe("recurrent_gan", {"x": "modality/sequence"}, latent=2, noise=1, width=4)
    with pytest.raises(ConfigError, match="no noise for the last steps") as refused:
        model.prepare({"x": [[0.5, 2.0] * 33, [1.0, 3.0]]})
    assert "'dec_x'" in str(refused.value)
    model.prepare({"x": [[0.5, 2.0] * 32, [1.0, 3.0]]})
    assert model.modalities["x"].length == 64


# Lengths


def likelihood() -> SequenceLikelihood:
    torch.manual_seed(0)
    values, stop = torch.randn(2, 1, 4, 2, dtype=torch.float64), torch.randn(2, 1, 4, dtype=torch.float64)
    return SequenceLikelihood(values, stop, torch.tensor([False, True]), 0.7)


def masks(n: int = 4) -> torch.Tensor:
    return torch.arange(n) < torch.arange(1, 5)[:, None]


def test_the_probabilities_of_all_lengths_sum_to_one():
    per_length = torch.stack([likelihood().log_length(mask[None]) for mask in masks()])
    torch.testing.assert_close(per_length.exp().sum(0), torch.ones(2, 1, dtype=torch.float64))
    h = torch.sigmoid(likelihood().stop[:, 0])
    for n, found in enumerate(per_length[:3], 1):
        wanted = [math.log(h[k, n - 1] * math.prod(1 - h[k, : n - 1])) for k in range(2)]
        assert found[:, 0].tolist() == pytest.approx(wanted)


def test_a_density_is_that_of_the_values_and_that_of_the_length():
    made, data = likelihood(), torch.tensor([[0.3, 1.0], [-1.0, 0.0], [2.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    for k, mask in product(range(2), masks()):
        n = int(mask.sum())
        values = made.values[k, 0, :n]
        density = Normal(values[:, 0], 0.7).log_prob(data[:n, 0]).sum()
        density = density + Bernoulli(logits=values[:, 1]).log_prob(data[:n, 1]).sum()
        signal = Signal(data[None], mask[None])
        assert float(made.log_prob(signal)[k, 0]) == pytest.approx(float(density + made.log_length(mask[None])[k, 0]))


def test_rows_without_a_step_and_padding_beyond_the_longest_say_nothing():
    mask = torch.cat([masks(), torch.zeros(4, 3, dtype=torch.bool)], 1)
    for short, long in zip(masks(), mask, strict=True):
        assert torch.equal(likelihood().log_length(short[None]), likelihood().log_length(long[None]))
    assert likelihood().log_length(torch.zeros(1, 4, dtype=torch.bool)).eq(0).all()
