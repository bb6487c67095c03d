"""Judges find coherence where there is some, chance where there is none, and each figure stands beside real data's."""

import json

import numpy as np
import pytest
import torch

from fusion_engine import DataError, Engine, FusionModel
from fusion_engine.config import EvaluationConfig
from fusion_engine.evaluation import frechet_with_floor
from fusion_engine.judging import PrepareTest, check_label, judge_rows, train_judges
from fusion_engine.measuring import DRAWS, figures

SETTINGS = EvaluationConfig(label="kind", samples=100, epochs=12)


def rows(n: int, seed: int, paired: bool = True) -> list[dict]:
    """Two pictures of one of two kinds: which half is bright, left or right in a, top or bottom in b."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 2, n)
    others = kinds if paired else rng.integers(0, 2, n)
    bright = np.repeat([200.0, 20.0], 3)
    shapes = [np.tile(bright, (6, 1)), np.tile(bright[::-1], (6, 1))]

    def noisy(x: np.ndarray) -> np.ndarray:
        return (x + rng.normal(0, 15, x.shape)).clip(0, 255)

    pairs = zip(kinds, others, strict=True)
    return [{"a": noisy(shapes[k]), "b": noisy(shapes[o].T), "kind": int(k)} for k, o in pairs]


@pytest.fixture(scope="module")
def trained(engine: Engine):
    torch.manual_seed(0)
    small = {"use": "modality/image", "encoder": {"use": "encoder/image.conv", "with": {"channels": 4}}}
    model = engine.recipe("vae", {"a": small, "b": small}, latent=4, epochs=25, components=4, beta=0.5)
    train = rows(300, 0)
    model.fit(train)
    return model, train, train_judges(engine, model, train, SETTINGS)


def test_a_model_of_paired_pictures_is_coherent_and_its_figures_stand_beside_real_data(trained):
    model, train, judges = trained
    found = {f.name: f for f in figures(model, judges, train, rows(120, 1), SETTINGS)}
    assert found["judge of a: accuracy"].value == 1.0
    for name in ("conditional coherence: a -> b", "conditional coherence: b -> a"):
        assert found[name].value > 0.95
        assert found[name].real == 1.0
    assert found["joint coherence: prior mixture"].value > 0.9
    assert found["Fréchet distance: a"].value > found["Fréchet distance: a"].real
    assert {f.split(": ")[0] for f in found} >= {"coverage", "memorising"}


def test_a_distance_and_its_floor_are_means_over_many_draws(trained):
    model, train, judges = trained
    test = rows(120, 1)
    found = {f.name: f for f in figures(model, judges, train, test, SETTINGS)}
    real, known = (judge_rows(model, judges, split, "kind")["a"].features for split in (test, train))
    floors = [frechet_with_floor(real, known, known, seed=i).floor for i in range(DRAWS)]
    assert found["Fréchet distance: a"].real == pytest.approx(sum(floors) / DRAWS)
    fakes = [judges["a"].judge(model.generated_signals(120, seed=1 + i)["a"])[1] for i in range(DRAWS)]
    distances = [frechet_with_floor(real, known, fake, seed=i).distance for i, fake in enumerate(fakes)]
    assert found["Fréchet distance: a"].value == pytest.approx(sum(distances) / DRAWS)


def test_with_pairs_shuffled_conditional_coherence_is_chance(trained):
    model, train, judges = trained
    shuffled = [{**row, "kind": int(k)} for row, k in zip(rows(200, 2), np.random.default_rng(3).integers(0, 2, 200))]
    found = {f.name: f for f in figures(model, judges, train, shuffled, SETTINGS)}
    assert abs(found["conditional coherence: a -> b"].value - 0.5) < 0.12


def test_judges_are_frozen_and_named_by_their_weights(engine, trained):
    model, _, judges = trained
    judge = judges["a"]
    assert not any(p.requires_grad for p in judge.model.graph.parameters())
    before = judge.digest
    judged = judge_rows(model, judges, rows(20, 4), "kind")["a"]
    assert judge.digest == before
    assert torch.equal(judged.labels, judged.predicted)
    with torch.no_grad():
        next(judge.model.graph.parameters()).add_(1.0)
    assert judge.digest != before


def test_what_cannot_be_judged_is_refused_before_training(trained):
    model, train, _ = trained
    test = rows(10, 5)
    check_label(model, train, [{**test[0], "kind": None}, *test[1:]], SETTINGS)
    for broken, message in (
        ([{**row, "kind": None} for row in train], "no column 'kind'"),
        ([row for row in train if row["kind"] == 0], "no judge has learned"),
        ([{**row, "a": None} for row in train], "no row of the training split has both 'a' and 'kind'"),
        (train[:5], "only 5 rows of the training split have both 'a' and 'kind'"),
    ):
        with pytest.raises(DataError, match=message):
            check_label(model, broken, test, SETTINGS)


def test_a_model_that_makes_and_predicts_nothing_is_not_judged(engine, trained):
    _, train, _ = trained
    encoder = {"use": "encoder/image.conv", "in": "a", "with": {"channels": 4}}
    config = {"modalities": {"a": {"use": "modality/image"}}, "nodes": {"encoder": encoder}}
    with pytest.raises(DataError, match="nothing to judge"):
        check_label(engine.build(config), train, rows(10, 5), SETTINGS)


def test_a_test_row_that_does_not_fit_is_refused_before_the_first_step(engine, trained):
    _, train, _ = trained
    small = {"use": "modality/image", "encoder": {"use": "encoder/image.conv", "with": {"channels": 4}}}
    model = engine.recipe("vae", {"a": small}, latent=4, epochs=1)
    larger = [*rows(3, 0), {"a": np.zeros((9, 9)), "kind": 0}]
    with pytest.raises(DataError, match="test split, row 3, modality 'a'"):
        model.fit(train, callbacks=[PrepareTest(model, larger)])
    assert model.progress.step == 0


def test_gaps_in_the_test_split_are_left_out(trained):
    model, train, judges = trained
    whole = rows(60, 6)
    gaps = [{**whole[0], "kind": None}, {**whole[1], "kind": float("nan")}, {**whole[2], "a": None}]
    found = {f.name: f.value for f in figures(model, judges, train, [*gaps, *whole[3:]], SETTINGS)}
    expected = {f.name: f.value for f in figures(model, judges, train, whole[3:], SETTINGS)}
    name = "conditional coherence: a -> b"
    assert found[name] == expected[name]


def test_what_no_test_row_tells_is_left_open(trained):
    model, train, judges = trained
    whole = rows(40, 7)
    apart = [{**row, "a" if i % 2 else "b": None} for i, row in enumerate(whole)]
    found = {f.name: f for f in figures(model, judges, train, apart, SETTINGS)}
    names = ("conditional coherence: a -> b", "conditional coherence: mean from 1", "joint coherence: prior mixture")
    assert [found[name].real for name in names] == [None] * 3
    json.dumps([f.as_dict() for f in found.values()], allow_nan=False)


def test_half_a_judge_judges_nothing(engine, trained, monkeypatch):
    model, train, _ = trained

    def interrupted(self, data, **options):
        self.metrics["interrupted"] = True
        return self

    monkeypatch.setattr(FusionModel, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_judges(engine, model, train, SETTINGS)


def test_what_can_be_read_off_a_sample_needs_no_judge_and_may_stand_for_several_labels(engine):
    """Pictures of three brightnesses; a caption names one of them, or two."""
    rng = np.random.default_rng(0)
    names = {"dark": {0}, "grey": {1}, "bright": {2}, "not dark": {1, 2}}

    def rows(n: int) -> list[dict]:
        found = []
        for kind in rng.integers(0, 3, n).tolist():
            fitting = [name for name, kinds in names.items() if kind in kinds]
            picture = (20 + 100 * kind + rng.normal(0, 10, (6, 6))).clip(0, 255)
            found.append({"picture": picture, "caption": fitting[rng.integers(len(fitting))], "kind": kind})
        return found

    def labels(modality: str, raw):
        return frozenset(names.get(raw, ())) if modality == "caption" else None

    small = {"use": "modality/image", "encoder": {"use": "encoder/image.conv", "with": {"channels": 4}}}
    chosen = {"picture": small, "caption": "modality/tabular.category"}
    model = engine.recipe("vae", chosen, latent=4, epochs=30, components=4, beta=0.3)
    train, test = rows(400), rows(150)
    model.fit(train)
    judges = train_judges(engine, model, train, SETTINGS, labels)
    assert judges["picture"].reads is None
    found = {f.name: f for f in figures(model, judges, train, test, SETTINGS)}
    to_caption, to_picture = (
        found[f"conditional coherence: {pair}"] for pair in ("picture -> caption", "caption -> picture")
    )
    assert to_caption.value > 0.95
    assert to_caption.real == 1.0  # the label is always among those that its caption names
    captions = model.translate({"picture": [row["picture"] for row in test]}, to="caption")
    vague = np.mean([row["kind"] in names[caption] for row in test for caption in captions])
    assert to_caption.chance == pytest.approx(vague, abs=0.02)  # what these very captions score beside other rows
    assert found["labels a sample: caption"].real == np.mean([len(names[row["caption"]]) for row in test])
    best = np.mean([1 / len(names[row["caption"]]) for row in test])
    assert found["judge of caption: accuracy"].real == pytest.approx(best)
    pictures = model.translate({"caption": [row["caption"] for row in test]}, to="picture")
    seen = judges["picture"].judge(
        model.modalities["picture"].collate([model.modalities["picture"].prepare(p) for p in pictures])
    )
    kinds = [judges["picture"].classes[i] for i in seen[0].tolist()]
    share = np.mean([kind in names[row["caption"]] for row in test for kind in kinds])
    assert to_picture.value > 0.9
    assert to_picture.chance == pytest.approx(share, abs=0.02)
    assert found["well formed: caption"].value == 1.0
    never = found["conditional coherence: mean from 1, caption never a source"]
    assert never.value == to_caption.value
    both = found["conditional coherence: mean from 1"].value
    assert "conditional coherence: mean from 1, caption left out" not in found  # nothing is left of two
    assert both == pytest.approx((to_caption.value + to_picture.value) / 2)
