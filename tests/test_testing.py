import re
from collections import Counter
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from zoo import WRONG, UnusedLayer, _Gaussian, _Score, _Sequences, _Steps, _Sum

from fusion_engine import ContractError, FusionError, Registry, Widths
from fusion_engine.kinds import KINDS
from fusion_engine.testing import ToyImage, ToyVector, check_component, explain, make_features, rules, toy_registry
from fusion_engine.testing.toy_networks import ToyDecoder, ToyEncoder


class Toys:
    registry = toy_registry()


@pytest.mark.parametrize(("component", "rule"), WRONG, ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_each_wrong_component_is_caught_by_the_rule_it_breaks(component, rule):
    with pytest.raises(ContractError) as caught:
        check_component(component, engine=Toys)
    assert caught.value.rule == rule, str(caught.value)
    assert f"rule '{rule}'" in str(caught.value)
    assert component.__name__ in str(caught.value.where)
    assert len(caught.value.problem) > 20


@pytest.mark.parametrize("component", [_Sum, _Gaussian, _Steps, _Sequences, _Score], ids=lambda x: x.__name__)
def test_what_the_wrong_ones_are_made_of_is_right(component):
    report = check_component(component, engine=Toys)
    assert report.passed == rules(report.kind)


@pytest.mark.parametrize("entry", Toys.registry.entries.values(), ids=lambda e: e.full_name)
def test_every_toy_keeps_every_rule(entry):
    assert check_component(entry, engine=Toys).passed == rules(entry.kind)


def test_every_rule_that_can_fail_is_broken_by_some_wrong_component():
    """``double-backward`` only remarks, metrics need only be constructible, wrong ensembles have their own file."""
    broken = {rule for _, rule in WRONG}
    kinds = [k for k in KINDS if k not in ("metric", "ensemble")]
    assert {r for k in kinds for r in rules(k)} - broken == {"double-backward"}


def test_rules_are_told_by_kind_with_a_sentence_each():
    assert all(rules(kind) for kind in KINDS)
    for kind in KINDS:
        assert max(Counter(rules(kind)).values()) == 1
        for rule in rules(kind):
            assert re.fullmatch(r"[a-z-]+", rule)
            assert explain(kind, rule)[-1] == "."
    with pytest.raises(FusionError, match="did you mean 'fusion'"):
        rules("fussion")


def test_a_component_is_found_by_name():
    assert check_component("fusion/toys.sum", engine=Toys).name == "fusion/toys.sum"
    with pytest.raises(FusionError, match="sum"):
        check_component("fusion/toys.summ", engine=Toys)


def test_a_rule_can_be_left_out_with_a_reason_and_chosen_alone():
    report = check_component(UnusedLayer, engine=Toys, skip={"parameters-learn": "kept for old checkpoints"})
    assert "parameters-learn" not in report.passed
    assert report.skipped == {"parameters-learn": "kept for old checkpoints"}
    assert check_component(UnusedLayer, engine=Toys, only=["padding"]).passed == ("padding",)
    with pytest.raises(FusionError, match="parameters-learn"):
        check_component(UnusedLayer, engine=Toys, skip={"parameters-lern": "typing"})


def test_an_unused_parameter_is_excused_by_its_reason():
    class Excused(UnusedLayer):
        unused_parameters: ClassVar = {"spare.*": "read by older checkpoints"}

    assert "parameters-learn" in check_component(Excused, engine=Toys).passed


def test_config_reaches_the_component_and_is_checked():
    with pytest.raises(FusionError, match="width"):
        check_component(_Sum, engine=Toys, config={"width": 0})
    assert check_component(_Sum, engine=Toys, config={"width": 1}).kind == "fusion"


def test_a_modality_can_be_given():
    seen = []

    class Watched(ToyEncoder):
        def __init__(self, modality: ToyVector) -> None:
            seen.append(modality.shape)
            super().__init__(modality)

    check_component(Watched, engine=Toys, modality=ToyVector(channels=7))
    assert set(seen) == {(7,)}


def test_a_modality_is_chosen_by_the_annotated_family():
    seen = []

    class Watched(ToyDecoder):
        def __init__(self, latent: int, modality: ToyImage, conditions=None) -> None:
            seen.append(type(modality))
            super().__init__(latent, modality, conditions)

    class Nothing:
        registry = Registry()

    check_component(Watched, engine=Nothing)
    assert set(seen) == {ToyImage}


def test_an_encoder_that_cannot_be_differentiated_twice_is_remarked_on_only():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.tanh()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return gradient * 1.0

    class Tanh(_Steps):
        def pool(self, tokens, mask):
            return super().pool(Once.apply(tokens), mask)

    report = check_component(Tanh, engine=Toys)
    assert "approximated" in report.remarks["double-backward"]
    assert "double-backward" not in check_component(_Steps, engine=Toys).remarks


def test_dropout_and_batch_norm_are_no_violation():
    class Regular(_Sum):
        def __init__(self, inputs: dict) -> None:
            super().__init__(inputs)
            self.tail = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 4))

        def fuse(self, vectors):
            return self.tail(super().fuse(vectors))

    assert check_component(Regular, engine=Toys).passed == rules("fusion")


def test_the_global_random_states_stay_as_they_are():
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.randn(()), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    check_component(_Sum, engine=Toys)
    assert (torch.randn(()), np.random.rand()) == expected


def test_a_metric_needs_its_kind_and_is_constructed():
    from torchmetrics import MeanMetric

    assert check_component(MeanMetric, kind="metric", engine=Toys).passed == ("constructs",)
    with pytest.raises(FusionError, match="kind"):
        check_component(MeanMetric, engine=Toys)


def test_made_features_have_the_asked_lengths():
    found = make_features({"a": Widths(3, 2), "b": Widths(4, 5)}, 4, lengths=[2, 5], ragged=True)
    assert [f.tokens.shape for f in found.values()] == [(4, 2, 3), (4, 5, 4)]
    assert [f.pooled.shape for f in found.values()] == [(4, 2), (4, 5)]
    assert found["b"].mask.sum(1).tolist() == [2, 3, 4, 5]
    assert found["a"].mask.any(1).all()
