import math

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from fusion_engine import DataError
from fusion_engine.evaluation import Manifold, manifold, manifold_with_floor, samples


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def reference(real: np.ndarray, fake: np.ndarray, k: int) -> list[float]:
    def reach(x: np.ndarray) -> np.ndarray:
        return NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x)[0][:, -1]

    apart = np.linalg.norm(real[:, None] - fake[None], axis=-1)
    in_real, in_fake = apart <= reach(real)[:, None], apart <= reach(fake)[None]
    return [in_real.any(0).mean(), in_fake.any(1).mean(), in_real.sum(0).mean() / k, in_real.any(1).mean()]


def values(m: Manifold) -> list[float]:
    return [m.precision, m.recall, m.density, m.coverage]


@pytest.mark.parametrize("k", [1, 5])
def test_agrees_with_scikit_learn(k: int) -> None:
    real, fake = normal(150, 6, 0).double(), normal(90, 6, 1).double() * 1.3
    assert values(manifold(real, fake, k=k)) == pytest.approx(reference(real.numpy(), fake.numpy(), k))


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_agrees_with_the_authors_of_density_and_coverage(shift: float) -> None:
    real, fake = normal(120, 5, 0).double(), normal(80, 5, 1).double() + shift
    found = compute_prdc(real.numpy(), fake.numpy(), nearest_k=5)
    expected = [found[name] for name in ("precision", "recall", "density", "coverage")]
    assert values(manifold(real, fake, k=5)) == pytest.approx(expected)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = normal(100, 6, 0), normal(83, 6, 1)
    whole = manifold(real, fake)
    monkeypatch.setattr(samples, "ROWS", 7)
    assert manifold(real, fake) == whole


def test_by_hand() -> None:
    real = torch.tensor([[0.0], [1.0], [3.0], [10.0]])  # to the nearest other: 1, 1, 2, 7
    fake = torch.tensor([[0.5], [2.5], [100.0]])  # 2, 2, 97.5
    found = manifold(real, fake, k=1)
    assert found.precision == pytest.approx(2 / 3)
    assert (
        found.recall == 1
    )  # 0 and 1 lie in the ball of 0.5; 3 and 10 in that of the outlier 100, which reaches to 2.5
    assert found.density == pytest.approx((2 + 1) / 3)
    assert found.coverage == 3 / 4  # 10 reaches to 3, and the nearest fake is 2.5


def test_duplicates_of_real_data_count_as_real() -> None:
    x = normal(30, 4, 0).repeat(6, 1)  # every radius is 0
    assert values(manifold(x, x)) == pytest.approx([1, 1, 6 / 5, 1])


def test_mode_collapse_shows_in_coverage() -> None:
    real = normal(500, 8, 0)
    found = manifold(real, normal(500, 8, 1) * 0.1)
    assert found.precision == 1
    assert found.coverage < 0.3
    assert found.recall < 0.1


@pytest.mark.parametrize(("d", "precision"), [(64, 0.709), (512, 0.577)])
def test_identical_distributions(d: int, precision: float) -> None:
    n, k = 2000, 5
    found = manifold(normal(n, d, 0).float(), normal(n, d, 1).float(), k=k)
    assert found.precision == pytest.approx(precision, abs=0.06)
    assert found.recall == pytest.approx(precision, abs=0.06)
    assert found.density == pytest.approx(1, abs=0.25)
    expected = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    assert found.coverage == pytest.approx(expected, abs=0.025)


def test_floor_is_at_equal_n() -> None:
    found = manifold_with_floor(normal(700, 8, 0), normal(900, 8, 1), normal(400, 8, 2))
    assert found.fake.coverage == pytest.approx(found.real.coverage, abs=0.05)
    assert found.real.coverage == pytest.approx(1 - 0.5**5, abs=0.03)


def test_refuses_fewer_rows_than_neighbours() -> None:
    with pytest.raises(DataError, match="at least 6"):
        manifold(normal(5, 2, 0), normal(10, 2, 1))
