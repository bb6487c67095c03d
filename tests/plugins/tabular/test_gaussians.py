import itertools
import math

import numpy as np
import pytest

from fusion_engine import ConfigError, Engine
from fusion_engine_tabular.gaussians import Gaussians


def columns(rows):
    return np.stack([row["point"] for row in rows]), np.array([row["mode"] for row in rows])


def test_layouts_are_the_published_ones():
    grid, ring = Gaussians(), Gaussians(layout="ring")
    assert {tuple(c) for c in grid.centres.tolist()} == set(itertools.product([-4, -2, 0, 2, 4], repeat=2))
    angles = [k * math.pi / 4 for k in range(8)]
    np.testing.assert_allclose(ring.centres, [[math.cos(a), math.sin(a)] for a in angles], atol=1e-12)
    assert (grid.deviation, ring.deviation) == (0.05, 0.01)


def test_other_sizes():
    assert {tuple(c) for c in Gaussians(size=4).centres.tolist()} == {(-1, -1), (-1, 1), (1, -1), (1, 1)}
    np.testing.assert_allclose(Gaussians(layout="ring", size=2).centres, [[1, 0], [-1, 0]], atol=1e-12)
    with pytest.raises(ConfigError, match=r"(?s)'size'.*square number.*24.*use 25"):
        Gaussians(size=24)


@pytest.mark.parametrize(("layout", "variance"), [("grid", 8 + 0.05**2), ("ring", 0.5 + 0.01**2)])
def test_moments(layout, variance):
    data = Gaussians(layout=layout, rows=50_000, seed=3)
    point, mode = columns(data.train)
    off = point - data.centres[mode]
    n = len(point)
    np.testing.assert_allclose(point.var(0), variance, rtol=0.02)
    np.testing.assert_allclose(off.mean(0), 0, atol=4 * data.deviation / math.sqrt(n))
    np.testing.assert_allclose(off.std(0), data.deviation, rtol=4 / math.sqrt(2 * n))
    assert abs(np.corrcoef(off.T)[0, 1]) < 4 / math.sqrt(n)
    shares = np.bincount(mode, minlength=data.size) / n
    np.testing.assert_allclose(shares, 1 / data.size, atol=4 * math.sqrt(1 / data.size / n))
    near = np.linalg.norm(off, axis=1) <= 3 * data.deviation
    assert near.mean() == pytest.approx(1 - math.exp(-4.5), abs=0.002)  # chi-square of two degrees of freedom


def test_splits_are_drawn_apart_and_again_the_same():
    first, again, other = Gaussians(rows=50, validation=50), Gaussians(rows=50), Gaussians(rows=50, seed=1)
    train, validation, test = (columns(rows)[0] for rows in (first.train, first.validation, first.test[:50]))
    np.testing.assert_array_equal(train, columns(again.train)[0])
    assert len(first.test) == 10_000
    assert len(again.validation) == 0
    for a, b in itertools.combinations([train, validation, test, columns(other.train)[0]], 2):
        assert not np.isin(a, b).any()


def test_a_row_is_what_the_modalities_take(engine: Engine):
    data = engine.dataset({
        "modalities": {"point": {"use": "modality/number"}, "mode": {"use": "modality/category"}},
        "nodes": {"enc": {"use": "encoder/tabular.mlp", "in": "point"}},
        "data": {"use": "dataset/gaussians", "with": {"layout": "ring", "rows": 200}},
    })  # fmt: skip
    learned = engine.registry.resolve("modality/number", "modality").load()().fit(r["point"] for r in data.train)
    np.testing.assert_allclose(learned["deviation"], columns(data.train)[0].std(0), rtol=1e-5)
    classes = engine.registry.resolve("modality/category", "modality").load()().fit(r["mode"] for r in data.train)
    assert classes == {"classes": list(range(8))}
