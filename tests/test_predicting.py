"""Figures of what heads predict: from all modalities and from each subset, on rows with gaps."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from fusion_engine import DataError, Engine, FusionError, FusionModel
from fusion_engine.config import EvaluationConfig, NoiseConfig
from fusion_engine.evaluation import area_under, wilson
from fusion_engine.evaluation.corruptions import sequence_jitter
from fusion_engine.judging import check_label, train_judges
from fusion_engine.predicting import all_figures, exams, prediction_figures, robustness
from fusion_engine.report.predictions import prediction_sections

PARTS = {"a": "modality/toys.vector", "b": "modality/toys.vector", "kind": "modality/category"}
SETTINGS = EvaluationConfig(label="kind")


def rows(n: int, seed: int, gaps: bool = False) -> list[dict[str, Any]]:
    """Three kinds; a tells them apart well, b hardly; some rows lack one, both, or the kind."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 3, n)
    found: list[dict[str, Any]] = [
        {"a": (3.0 * np.eye(3)[k] + rng.normal(0, 1, 3)).tolist(), "b": (np.eye(3)[k] + rng.normal(0, 2, 3)).tolist()}
        | {"kind": "xyz"[k]}
        for k in kinds
    ]
    for i, row in enumerate(found):
        for j, name in enumerate(row):
            if gaps and i % 7 == j:
                row[name] = None
    return found


@pytest.fixture(scope="module")
def model(toys: Engine) -> FusionModel:
    torch.manual_seed(0)
    return toys.recipe("classifier", PARTS, target="kind", width=8, epochs=20, lr=0.01).fit(rows(200, 0))


def accuracy(model: FusionModel, test: list[dict[str, Any]], names: tuple[str, ...]) -> tuple[float, int]:
    """Row by row: of those with a kind and all of the names, the share that is predicted from these alone."""
    chosen = [row for row in test if row["kind"] is not None and all(row[m] is not None for m in names)]
    right = [model.predict([{m: row[m] for m in names}])[0] == row["kind"] for row in chosen]
    return float(np.mean(right)), len(right)


def test_every_subset_is_measured_on_the_rows_that_have_it(model: FusionModel) -> None:
    test = rows(60, 1, gaps=True)
    found = {f.name: f for f in prediction_figures(model, test)}
    singles = {}
    for size in (1, 2):
        for names in combinations("ab", size):
            share, n = accuracy(model, test, names)
            figure = found[f"accuracy: {'+'.join(names)}"]
            interval = wilson(share, n)
            assert figure.value == pytest.approx(share)
            assert figure.note == f"95 %: {interval.low:.3f} to {interval.high:.3f}, of {n} rows"
            singles |= {names[0]: share} if size == 1 else {}
    assert found["best single accuracy"].value == pytest.approx(max(singles.values()))
    assert found["best single accuracy"].note.startswith("a; ")
    labelled = [row for row in test if row["kind"] is not None]
    said = [model.predict([{m: row[m] for m in "ab"}])[0] for row in labelled]
    right = float(np.mean([kind == row["kind"] for kind, row in zip(said, labelled, strict=True)]))
    assert found["accuracy"].value == pytest.approx(right)
    assert found["accuracy"].note.endswith(f"of {len(labelled)} rows")
    most = max(sum(row["kind"] == k for row in labelled) for k in "xyz")
    assert found["accuracy"].chance == pytest.approx(most / len(labelled))
    assert found["accuracy"].value > 0.65
    assert found["accuracy"].real is None
    assert found["log loss"].note.endswith("less is better")
    assert set(found) >= {"F1: macro", "AUROC", "Brier score", "calibration error", "balanced accuracy"}


def test_the_label_of_a_row_tells_its_head_nothing(model: FusionModel) -> None:
    (exam,) = exams(model, rows(20, 2))
    assert exam.sources == ("a", "b")
    shuffled = [row | {"kind": "x"} for row in rows(20, 2)]
    assert torch.equal(exam.answers(), exams(model, shuffled)[0].answers())
    assert torch.allclose(exam.answers(("a",)), model.predict_proba([{"a": row["a"]} for row in rows(20, 2)]))


def test_a_pure_classifier_needs_no_judges(toys: Engine, model: FusionModel) -> None:
    train, test = rows(60, 3), rows(30, 4)
    check_label(model, train, test, SETTINGS)
    assert train_judges(toys, model, train, SETTINGS) == {}
    found = all_figures(model, {}, train, test, SETTINGS)
    assert [f.name for f in found] == [f.name for f in prediction_figures(model, test)]
    with pytest.raises(DataError, match="no row of the test split has 'kind', which the head 'classify' predicts"):
        check_label(model, train, [row | {"kind": None} for row in test], SETTINGS)
    with pytest.raises(DataError, match="classes that no judge has learned"):
        check_label(model, [row for row in train if row["kind"] != "x"], test, SETTINGS)


def test_several_heads_are_named(toys: Engine) -> None:
    config = toys.recipe_config("classifier", PARTS, target="kind", width=8, epochs=1)
    config["nodes"]["auxiliary"] = {"use": "head/classification", "in": "enc_a", "out": "kind"}
    model = toys.build(config)
    model.prepare(rows(20, 0))
    names = {f.name for f in prediction_figures(model, rows(20, 1))}
    assert names >= {"accuracy of classify: a+b", "accuracy of auxiliary: a", "F1 of auxiliary: macro"}
    assert "accuracy of auxiliary: b" not in names  # it does not see b
    assert [title for title, _ in prediction_sections(model, rows(20, 1))] == [
        "Predictions of kind by auxiliary",
        "Predictions of kind by classify",
    ]


def test_noise_on_one_input_costs_accuracy_and_on_none_nothing(model: FusionModel) -> None:
    test, levels = rows(80, 5), [0.0, 1.0, 5.0]

    def noise(raw: Any, level: float, rng: np.random.Generator) -> Any:
        return (np.array(raw) + level * rng.normal(size=3)).tolist()

    found = {curve.name: curve for curve in robustness(model, test, "a", levels, noise)}
    clean = {f.name: f.value for f in prediction_figures(model, test)}
    assert found["accuracy"].values[0] == clean["accuracy"]
    assert found["accuracy"].values[0] > found["accuracy"].values[2] + 0.1
    assert found["accuracy"].area == area_under(levels, found["accuracy"].values)
    assert found["log loss"].area == -area_under(levels, found["log loss"].values)
    again = robustness(model, test, "a", levels, noise)
    assert {curve.name: curve for curve in again} == found
    with pytest.raises(FusionError, match="no head predicts from 'c'"):
        robustness(model, test, "c", levels, noise)
    with pytest.raises(FusionError, match="no head 'clasify' predicts"):
        robustness(model, test, "a", levels, noise, head="clasify")


def test_the_area_under_noise_is_a_figure_of_each_modality_named(toys: Engine) -> None:
    parts = {"a": "modality/sequence", "b": "modality/toys.vector", "kind": "modality/category"}
    data = [{**row, "a": np.array(row["a"])[:, None]} for row in rows(80, 0)]
    model = toys.recipe("classifier", parts, target="kind", width=8, epochs=3, lr=0.01).fit(data)
    levels = [0.0, 0.5, 2.0]
    noise = {"a": NoiseConfig(corrupt="sequence", levels=levels), "kind": NoiseConfig(corrupt="image", levels=levels)}
    found = {f.name: f for f in prediction_figures(model, data, noise)}
    assert [name for name in found if "noise" in name] == ["accuracy under noise: a"]
    shares = []
    for level in levels:
        worse = [
            {**row, "a": sequence_jitter(row["a"], level, np.random.default_rng([0, i]))} for i, row in enumerate(data)
        ]
        shares.append(accuracy(model, worse, ("a", "b"))[0])
    assert found["accuracy under noise: a"].value == pytest.approx(area_under(levels, shares))
    assert f"{shares[2]:.3f} at 2" in found["accuracy under noise: a"].note


@pytest.mark.parametrize(
    ("modality", "corrupt", "said"),
    [
        ("aa", "image", "no such modality"),
        ("a", "imge", "did you mean 'image'"),
        ("kind", "sequence", "does not fit its samples"),
    ],
)
def test_noise_that_cannot_be_measured_is_refused_before_training(
    model: FusionModel, modality: str, corrupt: str, said: str
) -> None:
    settings = EvaluationConfig(label="kind", noise={modality: NoiseConfig(corrupt=corrupt, levels=[0.0, 1.0])})
    with pytest.raises(DataError, match=said):
        check_label(model, rows(9, 0), rows(9, 1), settings)


def test_the_section_of_the_report_holds_the_matrix(model: FusionModel) -> None:
    test = rows(50, 6)
    ((title, text),) = prediction_sections(model, test)
    assert title == "Predictions of kind"
    said = model.predict([{m: row[m] for m in "ab"} for row in test])
    for kind in "xyz":
        counts = [sum(row["kind"] == kind and s == other for row, s in zip(test, said, strict=True)) for other in "xyz"]
        assert f"| **{kind}** | {' | '.join(map(str, counts))} |" in text
    error = next(f.value for f in prediction_figures(model, test) if f.name == "calibration error")
    assert f"calibration error is {error:.3f}" in text


def test_names_of_classes_are_text_and_many_classes_become_pairs(toys: Engine) -> None:
    rng = np.random.default_rng(0)
    kinds = [f"<b>{i}|" for i in range(25)]
    data = [{"a": rng.normal(size=3).tolist(), "kind": k} for k in kinds * 2]
    model = toys.recipe("classifier", {"a": PARTS["a"], "kind": PARTS["kind"]}, target="kind", width=8, epochs=1)
    model.fit(data)
    ((_, text),) = prediction_sections(model, data)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert table[0] == "| true class | taken for | rows |"
    assert 3 <= len(table) <= 22
    assert all(r"\<b\>" in line and r"\|" in line for line in table[2:])
