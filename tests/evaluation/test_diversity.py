import math

import pytest
import torch
from scipy.stats import entropy
from torch import Tensor

from fusion_engine import DataError
from fusion_engine.evaluation import class_diversity, duplicates, near_duplicates, reverse_kl, reverse_kl_floor, samples


def labels(*counts: int) -> Tensor:
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def test_entropy_and_classes_hit() -> None:
    found = class_diversity(labels(60, 30, 10, 0), 4)
    assert found.entropy == pytest.approx(entropy([0.6, 0.3, 0.1]))
    assert found.hit == 3  # a third of fair is 8.3 of 100
    assert class_diversity(labels(60, 32, 8, 0), 4).hit == 2
    assert class_diversity(labels(5, 5, 5), 3).entropy == pytest.approx(math.log(3))


def test_reverse_kl_agrees_with_scipy() -> None:
    assert reverse_kl(labels(6, 3, 1), labels(2, 5, 3), 3) == pytest.approx(entropy([6, 3, 1], [2, 5, 3]))
    assert reverse_kl(labels(6, 0, 4), labels(2, 5, 3), 3) == pytest.approx(entropy([6, 0, 4], [2, 5, 3]))
    assert reverse_kl(labels(1, 1, 1), labels(2, 5, 0), 3) == math.inf
    assert reverse_kl(labels(2, 2, 0), labels(7, 7, 0), 3) == 0


@pytest.mark.parametrize(("n", "floor"), [(10_000, 0.050), (25_600, 0.0195)])
def test_floor_of_reverse_kl_on_a_thousand_modes(n: int, floor: float) -> None:
    assert reverse_kl_floor(torch.arange(1000), 1000, n) == pytest.approx(floor, rel=0.03)


def test_labels_outside_the_classes_are_refused() -> None:
    for bad in (torch.tensor([0, 3]), torch.tensor([-1, 0]), torch.tensor([], dtype=torch.long)):
        with pytest.raises(DataError, match=r"in 0\.\.2"):
            class_diversity(bad, 3)


def test_near_duplicates_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.tensor([[0.0], [5.0], [0.1], [9.0], [5.05], [0.15]])
    expected = [[0, 2], [1, 4], [2, 5]]
    assert near_duplicates(x, 0.11).tolist() == expected
    monkeypatch.setattr(samples, "ROWS", 2)
    assert near_duplicates(x, 0.11).tolist() == expected


def test_duplicates_agree_with_a_loop() -> None:
    x = torch.rand(40, 2, generator=torch.Generator().manual_seed(0)).double()
    apart = [[math.dist(a, b) for b in x.tolist()] for a in x.tolist()]
    pairs = [[i, j] for i in range(40) for j in range(i + 1, 40) if apart[i][j] <= 0.03]
    assert near_duplicates(x, 0.03).tolist() == pairs
    assert 2 < len(pairs) < 40
    g, hits = torch.Generator().manual_seed(7), 0
    for _ in range(50):
        batch = torch.randperm(40, generator=g)[:12].tolist()
        hits += any(i in batch and j in batch for i, j in pairs)
    found = duplicates(x, threshold=0.03, size=12, batches=50, seed=7)
    assert found.batches == hits / 50
    assert found.support == pytest.approx(12 * 11 / (-2 * math.log(1 - hits / 50)))


def test_support_of_a_generator_with_few_samples() -> None:
    few = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    drawn = few[torch.randint(400, (4000,), generator=torch.Generator().manual_seed(1))]
    found = duplicates(drawn, threshold=1e-6, size=24, batches=1000)
    assert found.batches == pytest.approx(1 - math.exp(-24 * 23 / 800), abs=0.06)
    assert found.support == pytest.approx(400, rel=0.15)


def test_share_of_batches_against_the_exact_probability() -> None:
    pairs = torch.arange(100.0).repeat(2)[:, None]  # every value twice
    found = duplicates(pairs, threshold=0.5, size=14, batches=2000)
    no_pair = math.prod((200 - 2 * i) / (200 - i) for i in range(14))
    assert found.batches == pytest.approx(1 - no_pair, abs=0.03)
    assert found.support == pytest.approx(14 * 13 / 2 / -math.log(no_pair), rel=0.1)


def test_support_where_half_of_the_batches_repeat() -> None:
    found = duplicates(torch.tensor([[0.0], [0.0], [1.0], [2.0]]), threshold=0.5, size=3, batches=4000)
    assert found.batches == pytest.approx(0.5, abs=0.03)  # the pair and one of two others, out of four triples
    assert found.support == pytest.approx(3 * 2 / 1.386, rel=0.1)


def test_nothing_repeated() -> None:
    found = duplicates(torch.arange(50.0)[:, None], threshold=0.5, size=10)
    assert (found.batches, found.support) == (0, math.inf)
    with pytest.raises(DataError, match="2 to 50"):
        duplicates(torch.arange(50.0)[:, None], threshold=0.5, size=51)
