"""Each wrong ensemble is caught by the rule that it breaks."""

from typing import ClassVar

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from fusion_engine import ContractError
from fusion_engine.testing import check_component, rules, toy_registry


class Toys:
    registry = toy_registry()


class Mean(ClassifierMixin, BaseEstimator):
    """The mean of those who answer, by class name; equal probabilities where nobody does."""

    def __init__(self, members):
        self.members = members

    def fit(self, rows, labels):
        self.members_ = [clone(m).fit(rows, labels) for _, m in self.members]
        self.classes_ = np.unique(labels)
        return self

    def answers(self, rows):
        return np.stack([m.predict_proba(rows)[:, np.argsort(m.classes_)] for m in self.members_])

    def pool(self, answers):
        given = ~np.isnan(answers).any(-1, keepdims=True)
        mean = np.nan_to_num(answers).sum(0) / np.maximum(1, given.sum(0))
        return np.where(given.any(0), mean, 1 / 3)

    def predict_proba(self, rows):
        return self.pool(self.answers(rows))

    def predict(self, rows):
        return self.classes_[self.predict_proba(rows).argmax(1)]


class Copies(Mean):
    rule: ClassVar = "constructs"

    def __init__(self, members):
        self.members = list(members)


class Doubles(Mean):
    rule: ClassVar = "probabilities"

    def predict_proba(self, rows):
        return 2 * super().predict_proba(rows)


class PredictsTheLeastLikely(Mean):
    rule: ClassVar = "probabilities"

    def predict(self, rows):
        return self.classes_[self.predict_proba(rows).argmin(1)]


class Draws(Mean):
    rule: ClassVar = "repeatable"

    def fit(self, rows, labels):
        self.lucky = np.random.rand()
        return super().fit(rows, labels)

    def pool(self, answers):
        return (1 - self.lucky) * super().pool(answers) + self.lucky / 3


class Centres(Mean):
    rule: ClassVar = "row-independence"

    def pool(self, answers):
        mean = super().pool(answers)
        return (mean + mean.mean(0)) / 2


class DividesByAll(Mean):
    rule: ClassVar = "abstention"

    def pool(self, answers):
        mean = np.nan_to_num(answers).mean(0)
        return mean + (1 - mean.sum(1, keepdims=True)) / 3


class SaysNothing(Mean):
    rule: ClassVar = "nothing-present"

    def pool(self, answers):
        given = ~np.isnan(answers).any(-1).all(0)
        return np.where(given[:, None], super().pool(answers), np.nan)


class ByPlace(Mean):
    rule: ClassVar = "classes-by-name"

    def answers(self, rows):
        return np.stack([m.predict_proba(rows) for m in self.members_])


WRONG = [Copies, Doubles, PredictsTheLeastLikely, Draws, Centres, DividesByAll, SaysNothing, ByPlace]


@pytest.mark.parametrize("ensemble", WRONG, ids=lambda c: c.__name__)
def test_each_wrong_ensemble_is_caught_by_the_rule_it_breaks(ensemble):
    with pytest.raises(ContractError) as caught:
        check_component(ensemble, kind="ensemble", engine=Toys)
    assert caught.value.rule == ensemble.rule, str(caught.value)


def test_the_right_one_keeps_every_rule_and_each_rule_is_broken_by_some_wrong_one():
    assert check_component(Mean, kind="ensemble", engine=Toys).passed == rules("ensemble")
    assert {c.rule for c in WRONG} == {r for r in rules("ensemble") if not r.startswith("generates")}
