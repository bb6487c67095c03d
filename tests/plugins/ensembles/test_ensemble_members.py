"""Fused models as members: what they answer, where they abstain, and how they are trained."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fusion_engine import DataError, FusionError, Table
from fusion_engine_ensembles.averaging import Averaging
from fusion_engine_ensembles.evidential import Evidential
from fusion_engine_ensembles.members import Column, Member
from fusion_engine_ensembles.stacking import Stacking

NAMES = np.array(["low", "middle", "high"])


def rows_of(seed, n=90):
    """Draw two vectors and a label a row, either vector missing in a quarter of the rows."""
    random = np.random.default_rng(seed)
    truth = random.integers(3, size=n)
    cells = {m: truth[:, None] * scale + random.normal(size=[n, 2]) for m, scale in (("a", 2.0), ("b", 1.0))}
    gone = {m: random.random(n) < 0.25 for m in cells}
    rows = [{m: None if gone[m][i] else x[i].tolist() for m, x in cells.items()} for i in range(n)]
    return rows, NAMES[truth]


ROWS, LABELS = rows_of(0)
NEW, _ = rows_of(1, 40)
LABELLED = [{**row, "label": str(label)} for row, label in zip(ROWS, LABELS, strict=True)]


def untrained(toys, *names):
    modalities = {m: {"use": "modality/toys.vector", "with": {"size": 2}} for m in names}
    return toys.recipe("classifier", {**modalities, "label": "modality/category"}, width=6, epochs=12, lr=0.02)


@pytest.fixture(scope="module")
def models(toys):
    return {names: untrained(toys, *names).fit(LABELLED) for names in ("a", "b", "ab")}


def test_a_model_answers_as_it_predicts_and_abstains_without_its_modalities(models):
    member = Member(models["a"])
    assert list(member.classes_) == ["high", "low", "middle"]
    given = np.array([row["a"] is not None for row in NEW])
    found = member.predict_proba(NEW)
    assert np.isnan(found[~given]).all()
    expected = models["a"].predict_proba([row for row, has in zip(NEW, given, strict=True) if has])
    np.testing.assert_allclose(found[given], expected.numpy(), rtol=1e-5)
    labels = models["a"].predict([row for row, has in zip(NEW, given, strict=True) if has])
    assert list(member.predict(NEW)[given]) == labels
    logits = torch.tensor(found[given]).log()
    evidence = member.evidence(NEW)[given]
    np.testing.assert_allclose(torch.tensor(evidence).expm1().log().softmax(-1), logits.softmax(-1), rtol=1e-5)


def test_a_model_with_two_modalities_abstains_only_without_both(models):
    given = np.array([any(raw is not None for raw in row.values()) for row in NEW])
    assert 0 < given.sum() < len(NEW)
    np.testing.assert_array_equal(~np.isnan(Member(models["ab"]).predict_proba(NEW)).any(1), given)


@pytest.mark.parametrize("form", [Table, lambda rows: {m: [row[m] for row in rows] for m in ("a", "b")}, list])
def test_rows_come_as_tables_columns_and_lists(models, form):
    ensemble = Averaging([("a", models["a"]), ("b", models["b"])]).fit(form(ROWS), LABELS)
    np.testing.assert_allclose(ensemble.predict_proba(form(NEW)), ensemble.predict_proba(NEW))
    found, single = ensemble.predict_proba(NEW), [Member(models[m]).predict_proba(NEW) for m in ("a", "b")]
    frequencies = [np.mean(c == LABELS) for c in ensemble.classes_]
    for n in range(len(NEW)):
        answers = [p[n] for p in single if not np.isnan(p[n]).any()]
        np.testing.assert_allclose(found[n], np.mean(answers, axis=0) if answers else frequencies)


def test_the_label_of_a_row_is_never_read(models):
    member = Member(models["ab"])
    told = [{**row, "label": "low"} for row in NEW]
    np.testing.assert_array_equal(member.predict_proba(told), member.predict_proba(NEW))


def test_rows_of_other_modalities_alone_are_all_abstained_from(models):
    assert np.isnan(Member(models["a"]).predict_proba([{"b": [0.0, 1.0]}, {}])).all()
    with pytest.raises(DataError, match="another size"):
        Member(models["a"]).predict_proba([{"a": [0.0, 1.0, 2.0]}])


def test_a_head_that_the_model_lacks_is_refused(models):
    with pytest.raises(FusionError, match="no head 'clasify'"):
        Member(models["a"], "clasify").predict_proba(NEW)


def test_a_trained_model_is_never_trained_again(models):
    before = {n: p.clone() for n, p in models["a"].graph.state_dict().items()}
    member = Member(models["a"])
    assert clone(member) is member
    assert Stacking([("a", member), ("b", Member(models["b"]))]).fit(ROWS, LABELS).members_["a"] is member
    after = models["a"].graph.state_dict()
    assert all(torch.equal(x, after[n]) for n, x in before.items())


def test_a_model_to_be_trained_learns_as_it_does_alone(toys, models):
    template = untrained(toys, "a")
    before = [p.clone() for p in template.graph.parameters()]
    member = Member(template, trained=False)
    assert clone(member) is not member
    ensemble = Averaging([("a", member)]).fit(ROWS, LABELS)
    expected = Member(models["a"]).predict_proba(NEW)
    given = ~np.isnan(expected).any(1)
    np.testing.assert_allclose(ensemble.predict_proba(NEW)[given], expected[given], rtol=1e-5)
    assert all(torch.equal(x, y) for x, y in zip(before, template.graph.parameters(), strict=True))


def test_models_and_estimators_stack_together_out_of_fold(toys):
    line = make_pipeline(StandardScaler(), LogisticRegression())
    members = [("net", Member(untrained(toys, "a"), trained=False)), ("line", Column(line, "b"))]
    ensemble = Stacking(members, cv=2).fit(ROWS, LABELS)
    rows, labels = rows_of(2, 200)
    alone = Averaging([members[1]]).fit(ROWS, LABELS)
    assert ensemble.score(rows, labels) > alone.score(rows, labels) + 0.05
    assert ensemble.score(rows, labels) > 0.6


def test_an_estimator_of_one_column_learns_from_the_rows_that_have_it():
    given = np.array([row["a"] is not None for row in ROWS])
    x = np.array([row["a"] for row in ROWS if row["a"] is not None])
    found = Column(LogisticRegression(), "a").fit(ROWS, LABELS).predict_proba(ROWS)
    expected = LogisticRegression().fit(x, LABELS[given]).predict_proba(x)
    np.testing.assert_allclose(found[given], expected)
    assert np.isnan(found[~given]).all()
    with pytest.raises(DataError, match="no row has 'c'"):
        Column(LogisticRegression(), "c").fit(ROWS, LABELS)


def test_evidence_of_models_is_combined(models):
    ensemble = Evidential([("a", models["a"]), ("b", models["b"])]).fit(ROWS, LABELS)
    evidence = [np.nan_to_num(Member(models[m]).evidence(NEW)) for m in ("a", "b")]
    odds = np.prod([1 + e / 3 for e in evidence], axis=0)
    alpha = 3 * (odds - 1) + 1
    np.testing.assert_allclose(ensemble.predict_proba(NEW), alpha / alpha.sum(1, keepdims=True), rtol=1e-9)
    nothing = [i for i, row in enumerate(NEW) if row["a"] is None and row["b"] is None]
    np.testing.assert_allclose(ensemble.uncertainty(NEW)[nothing], 1.0)


def test_an_ensemble_of_trained_models_is_cloned_with_them(models):
    copy = clone(Averaging([("a", models["a"]), ("b", models["b"])]))
    assert [model for _, model in copy.members] == [models["a"], models["b"]]
    np.testing.assert_allclose(copy.fit(ROWS, LABELS).predict_proba(NEW).sum(1), 1)


@pytest.mark.parametrize("gap", [None, float("nan"), np.nan])
def test_a_missing_label_is_no_class(models, gap):
    labels = [*LABELS[:3].tolist(), gap, *LABELS[4:].tolist()]
    with pytest.raises(ValueError, match="that of row 3 is missing"):
        Averaging([("a", models["a"])]).fit(ROWS, labels)
    with pytest.raises(ValueError, match="that of row 3 is missing"):
        Averaging([("a", models["a"])]).fit(ROWS, pd.Series(labels))
