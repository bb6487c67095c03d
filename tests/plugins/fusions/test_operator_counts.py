"""However a strategy pairs its inputs or goes through their subsets, its operators grow with their number alone."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fusion_engine import Engine, Features, Fusion, Widths
from fusion_engine.signature import construct_kwargs
from fusion_engine.testing import make_features

ENGINE = Engine()
ENTRIES = [*ENGINE.registry.of("fusion"), *ENGINE.registry.of("posterior")]
FEW, MORE, MOST = 3, 5, 8
SLACK = 4
"""Operators; one for each pair of inputs would be 15 too many."""
CONFIGS: dict[str, dict[str, object]] = {
    "fusion/fusions.tensor": {"inner": 2},
    "posterior/generative.cross_private": {"own": "input0"},
}
"""Configs of components whose defaults are too large for eight inputs, or that have to be told something."""


class Counter(TorchDispatchMode):
    """Counts the aten operators that run inside."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def count(target, config, m):
    inputs = {f"input{i}": Widths(8, 8) for i in range(m)}
    torch.manual_seed(0)
    module = target(inputs, **construct_kwargs(target, config, target.__name__)).eval()
    features = make_features(inputs, 4, lengths=[4, 5, 6])
    present = torch.ones(4, m).bool()
    present[1, 0] = False
    with Counter() as counter:
        module(features, present)
    return counter.count


def grows_linearly(few, more, most):
    """The slope from 5 to 8 inputs is at most that from 3 to 5."""
    return (most - more) * (MORE - FEW) <= (more - few) * (MOST - MORE) + SLACK * (MORE - FEW)


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.full_name for entry in ENTRIES])
def test_operators_grow_linearly_with_the_inputs(entry):
    target = entry.load()
    if target.max_inputs is not None and target.max_inputs < MOST:
        pytest.skip(f"takes at most {target.max_inputs} inputs")
    counts = [count(target, CONFIGS.get(entry.full_name, {}), m) for m in (FEW, MORE, MOST)]
    assert min(counts) > 0
    assert grows_linearly(*counts), f"{counts} operators for {FEW}, {MORE} and {MOST} inputs"


class Pairs(Fusion):
    """One operator for each ordered pair of inputs, which is what must not be."""

    def __init__(self, inputs):
        super().__init__(inputs, 8)

    def forward(self, features, present):
        vectors = self.pooled(features, present)
        total = torch.zeros_like(vectors[0])
        for i, x in enumerate(vectors):
            for j in range(len(vectors)):
                if i != j:
                    total.add_(x)
        return Features.of_pooled(total)


def test_an_operator_for_each_pair_is_found_out():
    counts = [count(Pairs, {}, m) for m in (FEW, MORE, MOST)]
    extra = [counts[1] - counts[0], counts[2] - counts[1]]
    # 20 - 6 and 56 - 20 pairs, and what reading m inputs takes
    assert extra[1] - 36 == pytest.approx((extra[0] - 14) * 3 / 2)
    assert not grows_linearly(*counts)


def test_the_table_names_registered_components():
    assert set(CONFIGS) <= set(ENGINE.registry.entries)
