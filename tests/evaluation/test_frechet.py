import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from fusion_engine import DataError
from fusion_engine.evaluation import frechet_distance, frechet_with_floor


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def closed_form(x: Tensor, y: Tensor) -> float:
    a, b = x.double().numpy(), y.double().numpy()
    sa, sb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(sa @ sb).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sa + sb - 2 * root))


@pytest.mark.parametrize("offset", [0.0, 1e7])
def test_agrees_with_the_closed_form(offset: float) -> None:
    mix = normal(8, 8, 9)
    real, fake = (normal(300, 8, 0) @ mix).double() + offset, normal(200, 8, 1).double() + 0.5 + offset
    assert frechet_distance(real, fake) == pytest.approx(closed_form(real, fake), rel=1e-6)
    assert frechet_distance(fake, real) == pytest.approx(frechet_distance(real, fake), rel=1e-6)


def test_known_distances() -> None:
    x = normal(500, 4, 0)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, x + torch.tensor([3.0, 4.0, 0.0, 0.0])) == pytest.approx(25, rel=1e-5)
    scaled = (x - x.mean(0)) * 3 + x.mean(0)
    assert frechet_distance(x, scaled) == pytest.approx(float(4 * x.double().var(0).sum()), rel=1e-5)


@pytest.mark.parametrize("n", [100, 500, 2000])
def test_bias_of_a_distribution_with_itself(n: int) -> None:
    d = 64
    measured = np.mean([frechet_distance(normal(n, d, 2 * s), normal(n, d, 2 * s + 1)) for s in range(5)])
    leading_order = 2 * d / n + d * (d + 1) / (2 * n)  # 22.1, 4.42, 1.10: means, then covariances
    assert measured == pytest.approx(leading_order, rel=0.05)


def test_floor_is_at_equal_n() -> None:
    found = frechet_with_floor(normal(900, 16, 0), normal(2000, 16, 1), normal(400, 16, 2))
    expected = 2 * 16 / 400 + 16 * 17 / 800
    assert found.floor == pytest.approx(expected, rel=0.2)
    assert abs(found.excess) < 0.2 * expected
    assert frechet_with_floor(normal(400, 16, 0), normal(400, 16, 1), normal(400, 16, 2) + 1).excess > 12


def test_leaves_random_state_and_inputs_alone() -> None:
    before, x = torch.get_rng_state(), normal(50, 3, 0).requires_grad_()
    frechet_with_floor(x, normal(40, 3, 1), normal(30, 3, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert x.grad is None


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(DataError, match="do not fit"):
        frechet_distance(normal(10, 3, 0), normal(10, 4, 1))
    with pytest.raises(DataError, match="do not fit"):
        frechet_distance(normal(10, 3, 0), normal(1, 3, 1))
    with pytest.raises(DataError, match="NaN"):
        frechet_distance(normal(10, 3, 0), torch.full([10, 3], torch.nan))
