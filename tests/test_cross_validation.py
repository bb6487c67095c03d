"""Folds: every row is tested once by a model that has not seen it, and groups stay together."""

from collections import Counter
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from fusion_engine import ConfigError, DataError, Engine, FusionModel
from fusion_engine.config import read_config
from fusion_engine.cross_validation import CrossValidation, cross_validate, cross_validate_config
from fusion_engine.predicting import prediction_figures
from fusion_engine.report.tables import read_csv

PARTS = {"a": "modality/toys.vector", "kind": "modality/category"}


def rows(n: int = 40) -> list[dict[str, Any]]:
    """Two kinds, a quarter of them the second; five speakers; each row's first number is its own."""
    rng = np.random.default_rng(0)
    kinds = [int(i % 4 == 0) for i in range(n)]
    return [
        {"a": [float(i), 3.0 * k, rng.normal()], "kind": k, "speaker": f"s{i // 4 % 5}"} for i, k in enumerate(kinds)
    ]


@pytest.fixture(scope="module")
def config(toys: Engine) -> dict[str, Any]:
    made = toys.recipe_config("classifier", PARTS, target="kind", width=4, epochs=1)
    return made | {"train": made["train"] | {"seed": 7}}


Fold = tuple[set[int], set[int], int]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Fold]:
    """Rows to learn from, rows to test on and the seed, of each fold."""
    found: list[Fold] = []

    def places(table: Any) -> set[int]:
        return {int(row["a"][0]) for row in table}

    def fit(self: FusionModel, data: Any, *, callbacks: Any = (), **options: Any) -> FusionModel:
        self.prepare(data)
        self.metrics["interrupted"] = False
        found.append((places(data), places(callbacks[0].rows), self.config.train.seed))
        return self

    monkeypatch.setattr(FusionModel, "fit", fit)
    return found


def test_every_row_is_tested_once_by_a_model_that_has_not_seen_it(
    toys: Engine, config: dict[str, Any], seen: list[Fold]
) -> None:
    found = cross_validate(toys, config, rows(), folds=5, seed=1)
    everything = set(range(40))
    assert all(train | test == everything and not train & test for train, test, _ in seen)
    assert Counter(i for _, test, _ in seen for i in test) == Counter(everything)
    assert {seed for _, _, seed in seen} == {7}
    assert found.folds == [0, 1, 2, 3, 4]
    before = [test for _, test, _ in seen]
    seen.clear()
    cross_validate(toys, config, rows(), folds=5, seed=1, reseed=True)
    assert [test for _, test, _ in seen] == before
    assert [seed for _, _, seed in seen] == [7, 8, 9, 10, 11]
    seen.clear()
    cross_validate(toys, config, rows(), folds=5, seed=2)
    assert [test for _, test, _ in seen] != before


def test_strata_are_those_of_scikit_learn_and_unlabelled_rows_only_teach(
    toys: Engine, config: dict[str, Any], seen: list[Fold]
) -> None:
    cross_validate(toys, config, rows(), folds=5, stratify="kind", seed=3)
    kinds = [str(row["kind"]) for row in rows()]
    splits = StratifiedKFold(5, shuffle=True, random_state=3).split(kinds, kinds)
    assert [test for _, test, _ in seen] == [set(test.tolist()) for _, test in splits]
    assert all(sum(i % 4 == 0 for i in test) == 2 for _, test, _ in seen)
    seen.clear()
    data = [row | {"kind": None} if i in (5, 6) else row for i, row in enumerate(rows())]
    cross_validate(toys, config, data, folds=4, stratify="kind")
    assert all({5, 6} <= train and not {5, 6} & test for train, test, _ in seen)


@pytest.mark.parametrize("stratify", [None, "kind"])
def test_groups_stay_together(toys: Engine, config: dict[str, Any], seen: list[Fold], stratify: str | None) -> None:
    data = rows()
    data[9] = data[9] | {"kind": None}  # teaches, but not where its speaker is held out
    found = cross_validate(toys, config, data, folds=5, groups="speaker", stratify=stratify)
    by_column = [test for _, test, _ in seen]
    speakers = [row["speaker"] for row in data]
    for train, test, _ in seen:
        assert len({speakers[i] for i in test}) == 1
        assert not {speakers[i] for i in train} & {speakers[i] for i in test}
    assert sorted({row["tested"] for row in found.rows}) == ["s0", "s1", "s2", "s3", "s4"]
    seen.clear()
    cross_validate(toys, config, data, folds=5, groups=speakers, stratify=stratify)
    assert [test for _, test, _ in seen] == by_column


def test_each_group_is_held_out_in_turn(toys: Engine, config: dict[str, Any], seen: list[Fold]) -> None:
    found = cross_validate(toys, config, rows(), folds=None, groups="speaker")
    assert [row["tested"] for row in found.rows if row["name"] == "accuracy"] == ["s0", "s1", "s2", "s3", "s4"]
    assert [sorted(test) for _, test, _ in seen] == [
        [*range(4 * k, 4 * k + 4), *range(4 * k + 20, 4 * k + 24)] for k in range(5)
    ]


def test_a_fold_is_what_a_model_trained_by_hand_scores(toys: Engine, config: dict[str, Any]) -> None:
    told: list[Any] = []
    data = rows(24)
    halves = [i // 4 % 2 for i in range(24)]
    found = cross_validate(toys, config, data, folds=2, groups=halves, done=told.append)
    held_out = {row["fold"]: int(row["tested"]) for row in found.rows}
    for fold, group in held_out.items():
        train, test = ([row for row, half in zip(data, halves, strict=True) if (half == group) == s] for s in (0, 1))
        expected = {f.name: f.value for f in prediction_figures(toys.build(config).fit(train), test)}
        assert {row["name"]: row["value"] for row in found.rows if row["fold"] == fold} == expected
    assert [row for each in told for row in each] == found.rows


def test_mean_and_deviation_stand_behind_the_folds() -> None:
    values = [0.5, 0.75, 1.0]
    made = [
        {"fold": k, "tested": f"{k} rows", "name": "accuracy", "value": x, "chance": 0.5} for k, x in enumerate(values)
    ]
    found = CrossValidation([*made, {**made[0], "name": "AUROC", "chance": None}])
    assert found.summary == [
        {"name": "accuracy", "mean": fmean(values), "deviation": stdev(values), "folds": 3},
        {"name": "AUROC", "mean": 0.5, "deviation": 0.0, "folds": 1},
    ]
    assert found.as_markdown().splitlines() == [
        "| figure | mean ± deviation | chance | fold 0 (0 rows) | fold 1 (1 rows) | fold 2 (2 rows) |",
        "| --- | --- | --- | --- | --- | --- |",
        "| accuracy | 0.750 ± 0.250 | 0.500 ± 0.000 | 0.500 | 0.750 | 1.000 |",
        "| AUROC | 0.500 |  | 0.500 |  |  |",
    ]
    assert found.as_csv_rows()[4:6] == [
        {"fold": "mean", "name": "accuracy", "value": 0.75},
        {"fold": "mean", "name": "AUROC", "value": 0.5},
    ]


def test_what_cannot_be_folded_is_refused_before_training(
    toys: Engine, config: dict[str, Any], seen: list[Fold]
) -> None:
    gap = [row | {"speaker": None} if i == 3 else row for i, row in enumerate(rows())]
    for options, data, kind, message in (
        ({"folds": 1}, rows(), ConfigError, "two folds or more"),
        ({"folds": None}, rows(), ConfigError, "only groups"),
        ({"folds": None, "groups": "speaker", "stratify": "kind"}, rows(), ConfigError, "only groups"),
        ({"groups": "speakr"}, rows(), DataError, "no column 'speakr'(.|\n)*did you mean 'speaker'"),
        ({"groups": "speaker"}, gap, DataError, "no group(.|\n)*row 3"),
        ({"groups": ["x"] * 3}, rows(), DataError, "a group a row"),
        ({"groups": "speaker", "folds": 6}, rows(), DataError, "too few groups"),
        ({"folds": 5}, rows(4), DataError, "too few rows"),
        ({"folds": 5, "stratify": "kind"}, rows(16), DataError, r"fewer rows than there are folds(.|\n)*4 of 1"),
    ):
        with pytest.raises(kind, match=message):
            cross_validate(toys, config, data, **options)
    generates = toys.recipe_config("vae", {"a": "modality/toys.vector"}, latent=2, epochs=1)
    with pytest.raises(ConfigError, match="no head that predicts"):
        cross_validate(toys, generates, rows())
    assert not seen


def test_an_interrupted_fold_ends_it(toys: Engine, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: FusionModel, data: Any, **options: Any) -> FusionModel:
        self.metrics["interrupted"] = True
        return self

    monkeypatch.setattr(FusionModel, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(toys, config, rows())


def test_a_data_set_that_has_groups_is_asked_for_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = np.arange(24) % 2
    image = (label[:, None, None] * 120 + rng.integers(0, 60, (24, 8, 8))).astype(np.uint8)
    speaker = np.array([f"voice {i // 8}" for i in range(24)])
    np.savez(tmp_path / "mine.npz", image=image, label=label, speaker=speaker, test=(np.arange(24) < 4).astype(int))
    engine = Engine()
    small = {"use": "modality/image", "encoder": {"use": "encoder/image.conv", "with": {"channels": 2}}}
    made = engine.recipe_config("classifier", {"image": small, "label": "modality/category"}, width=4, epochs=1)
    options = {"path": str(tmp_path / "mine.npz"), "modalities": ["image", "label"]}
    made["data"] = {"use": "dataset/digits", "with": options}
    out = tmp_path / "out"
    found = cross_validate_config(engine, read_config(made), out, folds=None, group="speaker")
    assert list(dict.fromkeys(row["tested"] for row in found.rows)) == ["voice 0", "voice 1", "voice 2"]
    written = read_csv(out / "cross_validation.csv")
    accuracy = {row["fold"]: row["value"] for row in written if row["name"] == "accuracy"}
    assert list(accuracy) == [0, 1, 2, "mean", "deviation"]
    assert accuracy["mean"] == pytest.approx(fmean(accuracy[k] for k in range(3)))
    assert (out / "cross_validation.md").read_text() == found.as_markdown()
