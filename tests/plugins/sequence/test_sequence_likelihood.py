import math

import pytest
import torch

from fusion_engine import DataError, Noise, Signal
from fusion_engine_sequence.likelihood import SequenceLikelihood
from fusion_engine_sequence.modality import Series

N, C, SCALE = 6, 3, 0.7
IS_BINARY = torch.tensor([False, False, True])


def likelihood(*lead: int, seed: int = 0) -> SequenceLikelihood:
    g = torch.Generator().manual_seed(seed)
    return SequenceLikelihood(
        torch.randn(*lead, N, C, generator=g), torch.randn(*lead, N, generator=g), IS_BINARY, SCALE
    )


def signal() -> Signal:
    return Series(channels=C, length=N, binary=(2,)).example(4)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_hand(values, stop, data, mask) -> float:
    """One row, one step at a time."""
    n, total = int(mask.sum()), 0.0
    for t in range(n):
        for c in range(C):
            v, x = float(values[t, c]), float(data[t, c])
            if c == 2:
                total += math.log(sigmoid(v) if x == 1 else 1 - sigmoid(v))
            else:
                total += -0.5 * ((x - v) / SCALE) ** 2 - math.log(SCALE * math.sqrt(2 * math.pi))
        hazard = sigmoid(float(stop[t])) if t < N - 1 else 1.0
        total += math.log(hazard if t == n - 1 else 1 - hazard)
    return total


def test_log_prob_agrees_with_a_loop_over_steps():
    p, s = likelihood(2, 4), signal()
    want = [[by_hand(p.values[k, b], p.stop[k, b], s.data[b], s.mask[b]) for b in range(4)] for k in range(2)]
    torch.testing.assert_close(p.log_prob(s), torch.tensor(want), rtol=1e-5, atol=1e-5)


def test_probabilities_of_the_lengths_sum_to_one():
    p = likelihood(1)
    total = 0.0
    for n in range(1, N + 1):
        mask = torch.arange(N)[None] < n
        data = torch.zeros(1, N, C)
        values = sum(
            torch.distributions.Normal(p.values[0, t, :2], SCALE).log_prob(data[0, t, :2]).sum()
            + torch.distributions.Bernoulli(logits=p.values[0, t, 2]).log_prob(data[0, t, 2])
            for t in range(n)
        )
        total += (p.log_prob(Signal(data, mask))[0] - values).exp().item()
    assert total == pytest.approx(1.0, abs=1e-5)


def test_padding_changes_nothing_whatever_it_holds():
    p, s = likelihood(4), signal()
    p.values.requires_grad_()
    clean = p.log_prob(s)
    spoilt = Signal(s.data.masked_fill(~s.mask[..., None], float("nan")), s.mask)
    assert torch.equal(p.log_prob(spoilt), clean)
    grads = [torch.autograd.grad(p.log_prob(x).sum(), p.values)[0] for x in (s, spoilt)]
    assert torch.equal(*grads)
    assert (grads[0][~s.mask] == 0).all()


def test_signals_shorter_and_longer_than_the_likelihood():
    p, s = likelihood(4), signal()
    mask = s.mask & (torch.arange(N) < 3)
    want = p.log_prob(Signal(s.data, mask))
    torch.testing.assert_close(p.log_prob(Signal(s.data[:, :3], mask[:, :3])), want)
    longer = Signal(
        torch.cat([s.data, torch.full((4, 2, C), float("nan"))], 1), torch.cat([mask, mask[:, :2] & False], 1)
    )
    assert torch.equal(p.log_prob(longer), want)
    with pytest.raises(DataError, match=r"(?s)at most 6.*8"):
        p.log_prob(Signal(longer.data, torch.ones(4, N + 2, dtype=torch.bool)))


def test_a_row_without_steps_is_certain():
    p = likelihood(4)
    assert (
        p.log_prob(Signal(torch.full((4, N, C), float("nan")), torch.zeros(4, N, dtype=torch.bool))).tolist() == [0] * 4
    )


def test_mean_ends_at_the_median_length():
    p = likelihood(50)
    mean = p.mean
    torch.testing.assert_close(mean.data[..., :2], p.values[..., :2])
    torch.testing.assert_close(mean.data[..., 2], torch.sigmoid(p.values[..., 2]))
    for row in range(50):
        survival, lengths = 1.0, []
        for t in range(N):
            hazard = sigmoid(float(p.stop[row, t])) if t < N - 1 else 1.0
            lengths.append(survival * hazard)
            survival *= 1 - hazard
        median = next(n for n in range(1, N + 1) if sum(lengths[:n]) >= 0.5)
        assert mean.mask[row].tolist() == [t < median for t in range(N)]


def test_samples_have_the_frequencies_of_the_distribution():
    rows = 20_000
    one = likelihood(1)
    p = SequenceLikelihood(one.values.expand(rows, -1, -1), one.stop.expand(rows, -1), IS_BINARY, SCALE)
    state = torch.get_rng_state()
    drawn = p.sample(Noise.of(rows))
    assert torch.equal(state, torch.get_rng_state())
    hazard = torch.sigmoid(one.stop[0]).tolist()
    for t in range(N):
        assert drawn.mask[:, t].float().mean().item() == pytest.approx(math.prod(1 - h for h in hazard[:t]), abs=0.02)
    first = drawn.data[:, 0]
    assert first[:, 2].mean().item() == pytest.approx(torch.sigmoid(one.values[0, 0, 2]).item(), abs=0.02)
    torch.testing.assert_close(first[:, :2].mean(0), one.values[0, 0, :2], atol=0.02, rtol=0)
    torch.testing.assert_close(first[:, :2].std(0), torch.full((2,), SCALE), atol=0.02, rtol=0)
    assert (drawn.data[~drawn.mask] == 0).all()
    assert torch.equal(drawn.data, p.sample(Noise.of(rows)).data)
    assert torch.equal(drawn.mask, drawn.mask.cummin(1).values)


def test_sample_axes_are_drawn_apart():
    drawn = likelihood(1, 3).values.expand(2, 3, N, C)
    p = SequenceLikelihood(drawn, torch.zeros(2, 3, N), IS_BINARY, SCALE)
    sample = p.sample(Noise.of(3))
    assert sample.data.shape == (2, 3, N, C)
    assert sample.mask.shape == (2, 3, N)
    assert not torch.equal(sample.data[0], sample.data[1])


@pytest.mark.parametrize("n", [4, N, N + 2])
def test_relaxing_takes_the_mask_of_the_paired_row_and_lets_gradients_through(n):
    modality = Series(channels=C, length=N, binary=(2,))
    p = likelihood(2)
    p.values.requires_grad_()
    like = Signal(
        torch.randn(2, n, C, generator=torch.Generator().manual_seed(1)), torch.arange(n) < torch.tensor([[2], [4]])
    )
    relaxed = modality.relax(p, Noise.of(2), like)
    assert torch.equal(relaxed.mask, like.mask)
    assert relaxed.data.shape == like.data.shape
    for row, length in enumerate((2, 4)):
        expected = p.mean.data[row, :length].clone()
        expected[:, 2] = (expected[:, 2] >= 0.5).float()
        torch.testing.assert_close(relaxed.data[row, :length], expected)
        assert (relaxed.data[row, length:] == 0).all()
    relaxed.data.sum().backward()
    assert torch.equal(p.values.grad[0].abs().sum(-1) > 0, torch.arange(N) < 2)
