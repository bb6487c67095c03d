from pathlib import Path

import pytest
import torch
from bilinear_cases import WIDTHS, fuse, make
from torch.testing import assert_close

from fusion_engine import Engine
from fusion_engine.testing import check_component
from fusion_engine_fusions.low_rank import LowRankFusion

FILE = Path(__file__).parents[3] / "examples" / "plugins" / "frozen_low_rank.py"


@pytest.fixture(scope="module")
def frozen_engine():
    return Engine(plugins=[FILE])


@pytest.fixture
def frozen(frozen_engine):
    kind = frozen_engine.registry.resolve("fusion/frozen_low_rank", "fusion").load()
    return make(kind, width=5, rank=3)


def test_only_the_weights_of_the_products_and_the_bias_are_parameters(frozen):
    assert {n for n, _ in frozen.named_parameters()} == {"weight", "bias"}
    assert {n for n, _ in frozen.named_buffers()} == {"factor0", "factor1", "factor2"} < set(frozen.state_dict())


def test_equals_low_rank_fusion_of_the_same_weights(frozen):
    free = make(LowRankFusion, width=5, rank=3)
    with torch.no_grad():
        for buffer, factor in zip(frozen.buffers(), free.factors, strict=True):
            buffer.copy_(factor)
    free.weight, free.bias = frozen.weight, frozen.bias
    assert_close(fuse(frozen).pooled, fuse(free).pooled)


def test_its_factors_start_as_those_of_low_rank_fusion_and_stay(frozen_engine):
    kind = frozen_engine.registry.resolve("fusion/frozen_low_rank", "fusion").load()
    torch.manual_seed(3)
    frozen = kind(WIDTHS, width=5)
    torch.manual_seed(3)
    free = LowRankFusion(WIDTHS, width=5)
    before = [b.clone() for b in frozen.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(before, free.factors, strict=True))
    frozen.double()
    optimizer = torch.optim.SGD(frozen.parameters(), 0.1)
    fuse(frozen).pooled.square().sum().backward()
    optimizer.step()
    assert all(torch.equal(a.double(), b) for a, b in zip(before, frozen.buffers(), strict=True))
    assert not torch.equal(frozen.weight, free.weight.double())


def test_it_keeps_every_rule(frozen_engine):
    assert not check_component("fusion/frozen_low_rank", engine=frozen_engine, config={"width": 8}).skipped
