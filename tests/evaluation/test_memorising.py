import math

import pytest
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from fusion_engine.evaluation import copying_score, memorising


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_held_out_data_are_the_yardstick() -> None:
    train, test, fresh = normal(1000, 6, 0), normal(2000, 6, 1), normal(2000, 6, 2)
    found = memorising(train, test, fresh)
    assert found.share == pytest.approx(0.05, abs=0.015)
    assert found.ratio == pytest.approx(1, abs=0.05)
    assert abs(found.copying) < 3
    assert memorising(train, test, fresh, level=0.5).share == pytest.approx(0.5, abs=0.05)


def test_copies_are_found() -> None:
    train, test = normal(1000, 6, 0), normal(500, 6, 1)
    found = memorising(train, test, train[:400] + 1e-3)
    assert found.share == 1
    assert found.ratio < 0.05
    assert found.copying < -20


def test_a_tenth_of_copies_shows_in_the_share() -> None:
    train, test = normal(1000, 6, 0), normal(1000, 6, 1)
    found = memorising(train, test, torch.cat([train[:100], normal(900, 6, 2)]))
    assert found.share == pytest.approx(0.1 + 0.9 * 0.05, abs=0.02)


def test_samples_off_the_data() -> None:
    found = memorising(normal(500, 6, 0), normal(300, 6, 1), normal(300, 6, 2) * 4)
    assert found.share == 0
    assert found.ratio > 2
    assert found.copying > 10


def test_by_hand() -> None:
    train, test = torch.tensor([[0.0], [10.0]]), torch.tensor([[1.0], [12.0], [7.0]])  # 1, 2, 3 away
    found = memorising(train, test, torch.tensor([[0.5], [13.0]]), level=0.5)  # 0.5, 3 away
    assert found.share == 0.5
    assert found.ratio == pytest.approx(1.75 / 2)
    assert found.copying == pytest.approx((2.5 - 3) / math.sqrt(3))  # above: none; 1 and 2, and half of the tie


def test_copying_score_is_the_rank_test_of_scipy() -> None:
    held_out, generated = normal(70, 1, 0)[:, 0].abs(), normal(40, 1, 1)[:, 0].abs() * 0.8
    u = mannwhitneyu(generated.numpy(), held_out.numpy()).statistic
    expected = (u - 70 * 40 / 2) / math.sqrt(70 * 40 * 111 / 12)
    assert copying_score(held_out, generated) == pytest.approx(expected)
