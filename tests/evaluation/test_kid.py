"""The kernel distance against the definition by loops, scikit-learn's kernel, and torchmetrics."""

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

from fusion_engine import DataError
from fusion_engine.evaluation import kernel_distance, kernel_with_floor, samples


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def by_loops(x: Tensor, y: Tensor) -> float:
    k = [polynomial_kernel(a, b, degree=3, coef0=1) for a, b in ((x, x), (y, y), (x, y))]  # gamma is 1 / d
    n, m = len(x), len(y)
    within_x = sum(k[0][i, j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(k[1][i, j] for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return float(within_x + within_y - 2 * sum(k[2][i, j] for i in range(n) for j in range(m)) / (n * m))


@pytest.mark.parametrize("rows", [512, 7])
def test_agrees_with_scikit_learn_by_loops(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(samples, "ROWS", rows)
    real, fake = normal(30, 6, 0).double(), normal(19, 6, 1).double() * 1.4 + 0.3
    assert kernel_distance(real, fake) == pytest.approx(by_loops(real, fake), rel=1e-12)
    assert kernel_distance(fake, real) == pytest.approx(by_loops(real, fake), rel=1e-12)


class AsGiven(nn.Module):
    num_features = 8

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_agrees_with_torchmetrics_on_one_subset_of_everything() -> None:
    real, fake = normal(60, 8, 0), normal(60, 8, 1) + 0.5
    with pytest.warns(UserWarning, match="buffer"):
        metric = KernelInceptionDistance(feature=AsGiven(), subsets=1, subset_size=60, normalize=True)
    metric.set_dtype(torch.float64)
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    assert kernel_distance(real, fake) == pytest.approx(float(metric.compute()[0]), rel=1e-6)


def test_by_hand() -> None:
    """Two numbers each: k(0, 1) = 1, k(2, 2) = 125, k(0, 2) = 1, k(1, 2) = 27."""
    found = kernel_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [2.0]]))
    assert found == pytest.approx(1 + 125 - 2 * (1 + 1 + 27 + 27) / 4)


def test_unbiased_at_any_n() -> None:
    """The mean over draws of one distribution is 0, where the Fréchet distance is far above."""
    drawn = [kernel_distance(normal(20, 16, 2 * s), normal(45, 16, 2 * s + 1)) for s in range(200)]
    assert abs(np.mean(drawn)) < 3 * np.std(drawn) / np.sqrt(len(drawn))
    assert min(drawn) < 0 < max(drawn)


def test_floor_is_at_equal_n() -> None:
    found = kernel_with_floor(normal(900, 16, 0), normal(2000, 16, 1), normal(400, 16, 2))
    assert abs(found.floor) < 0.02
    assert abs(found.distance) < 0.02
    assert kernel_with_floor(normal(400, 16, 0), normal(400, 16, 1), normal(400, 16, 2) + 0.5).distance > 0.2
    again = kernel_with_floor(normal(900, 16, 0), normal(2000, 16, 1), normal(400, 16, 2))
    assert again == found
    assert kernel_with_floor(normal(9, 2, 0), normal(9, 2, 1), normal(9, 2, 0)[torch.randperm(9)]).distance < 0


def test_leaves_random_state_alone_and_refuses_what_does_not_fit() -> None:
    before = torch.get_rng_state()
    kernel_with_floor(normal(50, 3, 0), normal(40, 3, 1), normal(30, 3, 2))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(DataError, match="do not fit"):
        kernel_distance(normal(10, 3, 0), normal(10, 4, 1))
    with pytest.raises(DataError, match="NaN"):
        kernel_distance(normal(10, 3, 0), torch.full([10, 3], torch.nan))
