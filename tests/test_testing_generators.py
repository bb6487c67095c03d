"""Each wrong ensemble of generators is caught by the rule that it breaks."""

import random
from typing import ClassVar

import pytest
import torch

from fusion_engine import ContractError
from fusion_engine.testing import check_component, rules, toy_registry


class Toys:
    registry = toy_registry()


class Turns:
    """The members in turn."""

    def __init__(self, members):
        self.members = members

    def fit(self, rows):
        return self

    def generate(self, n, *, given=None, seed=0):
        columns = [model.generate(n, given=given, seed=seed)["sample"] for _, model in self.members]
        return {"sample": [columns[i % len(columns)][i] for i in range(n)]}


class FitsNothing(Turns):
    rule: ClassVar = "generates"

    def fit(self, rows):
        return None


class TooMany(Turns):
    rule: ClassVar = "generates"

    def generate(self, n, *, given=None, seed=0):
        return {"sample": [raw for _, m in self.members for raw in m.generate(n, given=given, seed=seed)["sample"]]}


class Averages(Turns):
    rule: ClassVar = "generates-from-members"

    def generate(self, n, *, given=None, seed=0):
        columns = [torch.tensor(m.generate(n, given=given, seed=seed)["sample"]) for _, m in self.members]
        return {"sample": torch.stack(columns).mean(0).tolist()}


class ShufflesRows(Turns):
    rule: ClassVar = "generates-for-what-is-given"

    def generate(self, n, *, given=None, seed=0):
        found = super().generate(n, given=given, seed=seed)["sample"]
        return {"sample": random.Random(seed).sample(found, n)}


class IgnoresSeeds(Turns):
    rule: ClassVar = "generates-repeatably"

    def generate(self, n, *, given=None, seed=0):
        return super().generate(n, given=given)


class DrawsFromTheGlobalState(Turns):
    rule: ClassVar = "generates-repeatably"

    def generate(self, n, *, given=None, seed=0):
        return super().generate(n, given=given, seed=int(torch.randint(1000, (1,))))


class DoesNothing:
    rule: ClassVar = "generates"

    def __init__(self, members):
        self.members = members


WRONG = [FitsNothing, TooMany, Averages, ShufflesRows, IgnoresSeeds, DrawsFromTheGlobalState, DoesNothing]


@pytest.mark.parametrize("ensemble", WRONG, ids=lambda c: c.__name__)
def test_each_wrong_ensemble_is_caught_by_the_rule_it_breaks(ensemble):
    with pytest.raises(ContractError) as caught:
        check_component(ensemble, kind="ensemble", engine=Toys)
    assert caught.value.rule == ensemble.rule, str(caught.value)


def test_the_right_one_keeps_every_rule_and_is_not_asked_for_classes():
    report = check_component(Turns, kind="ensemble", engine=Toys)
    assert report.passed == rules("ensemble")
    asked = {r for r in rules("ensemble") if r.startswith("generates")}
    assert {*report.remarks} == {*rules("ensemble")} - asked
    assert "no predict_proba" in report.remarks["constructs"]
    assert asked == {c.rule for c in WRONG}
