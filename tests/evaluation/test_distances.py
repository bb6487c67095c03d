"""The distances that `evaluate` reports beside real data's, on features that are given."""

import torch
from torch import Tensor

from fusion_engine.measuring import Figure, _distances


def normal(n: int, seed: int) -> Tensor:
    return torch.randn(n, 16, generator=torch.Generator().manual_seed(seed))


def found(fakes: list[Tensor]) -> dict[str, Figure]:
    return {f.name: f for f in _distances("x", normal(200, 0), normal(300, 1), fakes, 0)}


def test_a_perfect_generator_scores_as_real_data_does() -> None:
    figures = found([normal(200, s) for s in (2, 3, 4, 5)])
    kernel, repeats = figures["KID: x"], figures["duplicates: x"]
    assert kernel.real is not None
    assert repeats.real is not None
    assert abs(kernel.value) < 0.02
    assert abs(kernel.real) < 0.02
    assert 0.1 < repeats.real < 0.7
    assert abs(repeats.value - repeats.real) < 0.2


def test_collapse_shows() -> None:
    few = normal(20, 2)
    figures = found([few[torch.arange(200) % 20] + 1e-3 * normal(200, s) for s in (3, 4)])
    assert figures["duplicates: x"].value == 1
    assert figures["KID: x"].value > 0.1
    assert figures["coverage: x"].value < 0.5


def test_a_single_spot_is_no_error() -> None:
    assert found([torch.zeros(6, 16)] * 2)["duplicates: x"].value == 1
