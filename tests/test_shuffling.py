"""Sequences with their steps in another order."""

from itertools import permutations

import pytest
import torch
from scipy.stats import chisquare

from fusion_engine import Noise, Signal, shuffled_steps


def ragged(b: int = 6, n: int = 7) -> Signal:
    mask = torch.arange(n) < torch.tensor([n, 1, 0, 4, 2, 5])[:b, None]
    data = torch.arange(b * n * 2, dtype=torch.float32).reshape(b, n, 2)
    return Signal(data.masked_fill(~mask[..., None], torch.nan), mask, torch.rand(b, n, 1))


def rows(signal: Signal) -> list[list[list[float]]]:
    return [data[mask].tolist() for data, mask in zip(signal.data, signal.mask, strict=True)]


def test_each_row_keeps_its_steps_and_nothing_else_moves():
    signal = ragged()
    moved = shuffled_steps(signal, Noise.of(6, 1), 7)
    assert [sorted(r) for r in rows(moved)] == [sorted(r) for r in rows(signal)]
    assert rows(moved) != rows(signal)
    assert moved.mask is signal.mask
    assert moved.position is signal.position
    assert moved.data[~signal.mask].isnan().all()


def test_an_order_depends_on_the_rows_noise_alone():
    signal = ragged()
    whole = rows(shuffled_steps(signal, Noise.of(6, 1), 9))
    for i in range(6):
        alone = Noise(1, torch.tensor([i]), 6)
        longer = signal.take(torch.tensor([i])).map(lambda x: torch.cat([x, x[:, -2:]], 1))
        longer = Signal(longer.data, torch.cat([signal.mask[i : i + 1], torch.zeros(1, 2).bool()], 1))
        assert rows(shuffled_steps(longer, alone, 9)) == [whole[i]]
    assert rows(shuffled_steps(signal, Noise.of(6, 2), 9)) != whole


@pytest.mark.parametrize("slots", [[0, 1, 2], [0, 2, 4]], ids=["prefix", "holes"])
def test_every_order_is_equally_likely(slots):
    b = 6000
    data = torch.tensor([10.0, 11, 12, 13, 14]).expand(b, 5)[..., None]
    mask = torch.zeros(b, 5, dtype=torch.bool)
    mask[:, slots] = True
    moved = shuffled_steps(Signal(data, mask), Noise.of(b, 0), 5).data[..., 0]
    assert torch.equal(moved[~mask], data[..., 0][~mask])
    found = moved[mask].reshape(b, 3).tolist()
    counts = [found.count([10.0 + i for i in order]) for order in permutations(slots)]
    assert sum(counts) == b
    assert chisquare(counts).pvalue > 0.01


def test_without_a_mask_all_steps_move():
    moved = shuffled_steps(Signal(torch.arange(50.0).reshape(1, 50, 1)), Noise.of(1), 50).data.flatten()
    assert sorted(moved.tolist()) == list(range(50))
    assert (moved == torch.arange(50.0)).sum() < 10
