"""What is told to a generator: figures of a conditional GAN, whose conditions are those of the test rows."""

import numpy as np
import pytest
import torch

from fusion_engine import Engine, FusionModel
from fusion_engine.config import EvaluationConfig
from fusion_engine.judging import train_judges
from fusion_engine.measuring import Asked, figures
from fusion_engine.report import gallery
from fusion_engine.values import Signal

SETTINGS = EvaluationConfig(label="kind", samples=100, epochs=12)
KINDS = 3


def rows(n: int, seed: int) -> list[dict]:
    """A picture of one of three kinds: which third of it is bright."""
    rng = np.random.default_rng(seed)
    return [{"image": picture(k, rng), "kind": int(k)} for k in rng.integers(0, KINDS, n)]


def picture(kind: int, rng: np.random.Generator) -> np.ndarray:
    image = np.full((6, 6), 40.0)
    image[:, 2 * kind : 2 * kind + 2] = 200
    return (image + rng.normal(0, 10, image.shape)).clip(0, 255)


@pytest.fixture(scope="module")
def judged(engine: Engine):
    torch.manual_seed(0)
    parts = {
        "image": {"use": "modality/image", "encoder": {"use": "encoder/image.mlp", "with": {"widths": [16]}}},
        "kind": "modality/category",
    }
    model = engine.recipe("gan", parts, given=["kind"], latent=4, epochs=1)
    train = rows(300, 0)
    model.fit(train)
    return model, train, train_judges(engine, model, train, SETTINGS)


class Painter:
    """Makes the model's samples: a picture of what is asked for, or of something else."""

    def __init__(self, model: FusionModel, shown) -> None:
        self.model, self.shown, self.asked = model, shown, []

    def __call__(self, n: int, *, given=None, prior=None, seed: int = 0, sample: bool = False) -> dict[str, Signal]:
        assert given is not None
        assert len(given["kind"]) == n
        self.asked.append(list(given["kind"]))
        rng = np.random.default_rng(seed)
        images = [self.model.modalities["image"].prepare(picture(self.shown(k), rng)) for k in given["kind"]]
        return {"image": self.model.modalities["image"].collate(images)}


def measured(judged, monkeypatch, shown) -> tuple[dict, Painter]:
    model, train, judges = judged
    painter = Painter(model, shown)
    monkeypatch.setattr(model, "generated_signals", painter)
    return {f.name: f for f in figures(model, judges, train, rows(90, 1), SETTINGS)}, painter


def test_a_generator_that_obeys(judged, monkeypatch):
    found, painter = measured(judged, monkeypatch, lambda kind: kind)
    obeyed = found["condition obeyed: kind -> image"]
    assert obeyed.value > 0.99
    assert obeyed.real == found["judge of image: accuracy"].value
    assert obeyed.chance == pytest.approx(1 / 3, abs=0.03)
    assert found["classes shown: image"].value == found["classes shown: image"].real == KINDS
    assert found["entropy of classes: image"].value == pytest.approx(found["entropy of classes: image"].real, abs=1e-3)
    assert found["coverage: image"].value > 0.7
    for asked in painter.asked:  # the kinds of the test rows, as often as they have them
        assert sorted(asked) == sorted(row["kind"] for row in rows(90, 1))


def test_a_generator_that_does_not(judged, monkeypatch):
    found, _ = measured(judged, monkeypatch, lambda kind: (kind + 1) % KINDS)
    assert found["condition obeyed: kind -> image"].value < 0.01
    assert found["classes shown: image"].value == KINDS
    found, _ = measured(judged, monkeypatch, lambda kind: 2 * (kind > 0))
    assert found["classes shown: image"].value == 2
    assert found["entropy of classes: image"].value < 0.7  # log 2 at most
    assert found["condition obeyed: kind -> image"].value == pytest.approx(2 / 3, abs=0.15)


def test_conditions_are_asked_for_as_often_as_each_other(judged):
    model, train, _ = judged
    asked = Asked.of(model, [*train[:7], {"image": train[0]["image"], "kind": None}], "kind")
    assert asked.names == ("kind",)
    assert len(asked.rows) == 7
    chosen = asked.choice(20, seed=3)
    assert sorted(chosen.count(i) for i in range(7)) == [2] + [3] * 6
    assert chosen == asked.choice(20, seed=3)
    assert chosen != asked.choice(20, seed=4)


def test_a_label_may_be_given_and_changes_the_sample(judged):
    model, train, _ = judged
    one, other = (model.generate(4, given={"kind": [k] * 4})["image"] for k in (0, 1))
    assert all(np.abs(a - b).max() > 0 for a, b in zip(one, other, strict=True))
    assert np.array_equal(one, model.generate(4, given={"kind": [0] * 4})["image"])
    made = gallery.generated(model, train[:3], 4)["image"].data
    expected = model.generated_signals(4, given={"kind": [train[i % 3]["kind"] for i in range(4)]})["image"].data
    assert torch.equal(made, expected)


def test_without_conditions_nothing_is_asked(engine: Engine):
    model = engine.recipe("gan", {"image": {"use": "modality/image", "with": {"shape": [1, 6, 6]}}}, epochs=1)
    assert model.conditions == ()
    assert Asked.of(model, rows(5, 0), "kind").choice(9, seed=0) == []
    assert torch.equal(gallery.generated(model, rows(5, 0), 3)["image"].data, model.generated_signals(3)["image"].data)


def test_what_is_decoded_or_only_inferred_from_is_no_condition(engine: Engine):
    parts = {"image": {"use": "modality/image", "with": {"shape": [1, 6, 6]}}, "kind": "modality/category"}
    assert engine.recipe("vae", parts, latent=2).conditions == ()
    assert engine.recipe("gan", parts, given=["kind"], latent=2).conditions == ("kind",)
