"""Modes of a known mixture: by hand, by a loop, and against what the mixture itself scores."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2, entropy
from torch import Tensor

from fusion_engine import DataError
from fusion_engine.evaluation import modes, samples

SQUARE = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def grid(side: int = 5) -> Tensor:
    steps = torch.arange(side) * 2.0 - side + 1
    return torch.cartesian_prod(steps, steps)


def drawn(centres: Tensor, n: int, deviation: float, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    chosen = centres[torch.randint(len(centres), (n,), generator=g)]
    return chosen + deviation * torch.randn(n, centres.shape[1], generator=g)


def test_by_hand() -> None:
    """24 samples of 4 modes: a third of a fair share is 2."""
    off = torch.tensor([[2.9, 0.0], [0.0, 3.1], [-3.0, 0.0]])  # near, far, near (at the edge) at deviation 1
    x = torch.cat([SQUARE[:1].repeat(19, 1), SQUARE[1:2].repeat(2, 1), SQUARE[2:3] + off])
    found = modes(x, SQUARE, 1.0)
    assert found.hit == 3  # the third has two near it: just enough
    assert found.touched == 3
    assert found.near == pytest.approx(23 / 24)
    assert found.reverse_kl == pytest.approx(entropy([19, 2, 3], [8, 8, 8]) + math.log(4 / 3))
    fewer = modes(x[:-1], SQUARE, 1.0)  # one near of 23 samples: touched, not hit
    assert (fewer.hit, fewer.touched) == (2, 3)


def test_agrees_with_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "ROWS", 50)
    centres, x = grid(), drawn(grid()[:20], 400, 0.3)
    counts, near = np.zeros(25), np.zeros(25)
    for row in x.double().numpy():
        apart = np.linalg.norm(centres.double().numpy() - row, axis=1)
        counts[apart.argmin()] += 1
        near[apart.argmin()] += apart.min() <= 0.6
    found = modes(x, centres, 0.2)
    assert found.near == pytest.approx(near.sum() / 400)
    assert (found.hit, found.touched) == ((near >= 400 / 75).sum(), (near > 0).sum())
    assert found.reverse_kl == pytest.approx(entropy(counts / 400, np.full(25, 1 / 25)))


@pytest.mark.parametrize("d", [1, 2, 3])
def test_best_is_what_the_mixture_scores(d: int) -> None:
    centres = torch.arange(4.0)[:, None].expand(4, d) * 100
    found = modes(drawn(centres, 20_000, 0.5), centres, 0.5)
    assert found.best == pytest.approx(chi2.cdf(9, d))
    assert found.near == pytest.approx(found.best, abs=0.003)
    assert (found.hit, found.touched) == (4, 4)


def test_a_perfect_generator_scores_its_floor() -> None:
    found = [modes(drawn(grid(), 2500, 0.05, seed), grid(), 0.05) for seed in range(10)]
    assert np.mean([f.reverse_kl for f in found]) == pytest.approx(found[0].floor, rel=0.15)
    assert found[0].floor == pytest.approx(24 / 5000, rel=0.15)
    assert all(f.hit == 25 for f in found)


def test_collapse_onto_some_modes() -> None:
    found = modes(drawn(grid()[:5], 5000, 0.05), grid(), 0.05)
    assert (found.hit, found.touched) == (5, 5)
    assert found.reverse_kl == pytest.approx(math.log(5), abs=0.01)
    nowhere = modes(torch.full([30, 2], 50.0), grid(), 0.05)
    assert (nowhere.hit, nowhere.touched, nowhere.near) == (0, 0, 0)


def test_what_is_no_mixture_is_refused() -> None:
    with pytest.raises(DataError, match="above 0"):
        modes(grid(), grid(), 0.0)
    with pytest.raises(DataError, match="do not fit"):
        modes(torch.zeros(5, 3), grid(), 1.0)
    with pytest.raises(DataError, match="NaN"):
        modes(torch.full([5, 2], torch.nan), grid(), 1.0)
