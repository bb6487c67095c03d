"""The watch on generated data: its figures computed another way, what it does, and what it must not do."""

import logging
from typing import Any

import pytest
import torch
from scipy.stats import energy_distance

from fusion_engine import ConfigError, Engine, FusionModel, Signal
from fusion_engine.training import Callback
from fusion_engine.training.monitor import flat, watch

G = torch.Generator().manual_seed(4)
DATA = torch.randn(256, 2, generator=G)


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_data_beside_itself_is_well():
    found = watch(normal(256, 4, 1), normal(256, 4, 2), normal(256, 4, 3))
    assert found.coverage == pytest.approx(1, abs=0.05)
    assert found.duplicates == pytest.approx(0.05, abs=0.04)
    assert abs(found.distance) < 0.02


def test_one_mode_of_two_and_one_point_are_not():
    real, others = (torch.cat([normal(128, 3, s), normal(128, 3, s + 1) + 20]) for s in (1, 3))
    one = watch(real, others, normal(256, 3, 5))
    assert one.coverage == pytest.approx(0.5, abs=0.05)
    point = watch(real, others, normal(1, 3, 6).expand(256, 3) + 1e-4 * normal(256, 3, 7))
    assert point.coverage < 0.1
    assert point.duplicates == 1.0
    assert point.distance > one.distance > 0.2


def test_the_energy_distance_is_scipys_on_a_line():
    x, y = normal(100, 1, 1), 2 * normal(100, 1, 2) + 1
    apart = (x - x.T).abs().mean()
    expected = energy_distance(x.flatten().numpy(), y.flatten().numpy()) ** 2 / apart
    assert watch(x, normal(100, 1, 3), y).distance == pytest.approx(float(expected), rel=1e-9)


def test_whole_numbers_and_ragged_rows_lie_flat():
    ids = Signal(torch.tensor([[2, 0], [1, 1], [7, 7]]))
    soft = torch.nn.functional.one_hot(torch.tensor([[2, 0], [1, 1]]), 3).float()
    rows = torch.tensor([True, True, False])
    assert torch.equal(flat(ids, rows, 6), flat(Signal(soft), torch.tensor([True, True])))
    ragged = Signal(torch.tensor([[[1.0], [2.0], [torch.nan]]]), torch.tensor([[True, True, False]]))
    assert flat(ragged, torch.tensor([True]), 5).tolist() == [[1, 2, 0, 0, 0]]
    assert flat(ragged, torch.tensor([True]), 2).tolist() == [[1, 2]]


def model_of(monitor: dict[str, Any] | None, steps: int = 12, **stage: Any) -> FusionModel:
    """A GAN of two numbers whose generator starts as the identity: it is perfect, and learns next to nothing."""
    optimizer = {"lr": 1e-6, "betas": [0.0, 0.9]}
    train: dict[str, Any] = {"batch_size": 64, "optimizer": {"generator": optimizer, "discriminator": optimizer}}
    model = Engine().build(
        {
            "modalities": {"x": {"use": "modality/tabular.number", "with": {"centre": [0, 0], "deviation": [1, 1]}}},
            "nodes": {
                "noise": {"use": "prior/normal", "with": {"latent": 2}},
                "dec": {"use": "decoder/tabular.numbers", "in": {"z": "noise"}, "out": "x", "with": {"width": 4}},
                "disc": {"use": "encoder/tabular.numbers", "in": "x"},
                "score": {"use": "head/score", "in": "disc"},
            },
            "losses": {"game": {"use": "loss/relativistic", "with": {"score": "score"}}},
            "stages": [{"name": "play", "steps": steps, "losses": ["game"], **stage}],
            "train": train if monitor is None else {**train, "monitor": {"every": 2, "rows": 100, **monitor}},
        }
    )
    model.prepare({"x": list(DATA.numpy())})
    first, _, last = model.graph["dec"].body
    with torch.no_grad():  # lrelu(x) - lrelu(-x) = 1.2 x
        eye = torch.eye(2)
        first.weight.copy_(torch.cat([eye, -eye]))
        last.weight.copy_(torch.cat([eye, -eye], 1) / 1.2)
        first.bias.zero_()
        last.bias.zero_()
    return model


class Collapse(Callback):
    """Shrinks what is generated to a point after a given number of steps."""

    def __init__(self, model: FusionModel, *steps: int) -> None:
        self.last, self.steps = model.graph["dec"].body[2], steps

    def on_step_end(self, trainer, metrics):
        if trainer.progress.step in self.steps:
            with torch.no_grad():
                self.last.weight.mul_(1e-3)


def fitted(model: FusionModel, *collapses: int) -> FusionModel:
    """Train without preparing anew, which would build other weights."""
    return model.fit({"x": list(DATA.numpy())}, callbacks=[Collapse(model, *collapses)])


def spread(model: FusionModel) -> float:
    return float(torch.tensor([list(x) for x in model.generate(200)["x"]]).std())


def test_a_collapse_is_told_when_it_happens(caplog):
    with caplog.at_level(logging.WARNING, "fusion_engine"):
        model = fitted(model_of({"action": "warn"}), 5)
    said = [r.message for r in caplog.records if "collapsed" in r.message]
    assert len(said) == 1
    assert said[0].startswith("step 6: the generator has collapsed (x: coverage 0.0")
    assert model.progress.step == 12
    assert spread(model) < 0.1


def test_training_stops_where_it_is_to(caplog):
    model = fitted(model_of({"action": "stop"}), 5)
    assert model.progress.step == 6
    assert len(model.generate(3)["x"]) == 3
    assert "collapsed" in model.metrics["stopped"]


def test_weights_go_back_to_the_last_that_were_well(caplog):
    with caplog.at_level(logging.WARNING, "fusion_engine"):
        model = fitted(model_of({"action": "roll_back"}), 5)
    assert "back to the weights of step 4, at half the learning rates" in caplog.text
    assert model.progress.step == 12
    assert spread(model) == pytest.approx(1, abs=0.2)


def test_it_goes_back_three_times_at_most():
    model = fitted(model_of({"action": "roll_back"}, steps=40), 3, 7, 11, 15)
    assert model.progress.step == 16
    assert "3 times before" in model.metrics["stopped"]


def test_what_was_never_well_is_said_once_and_not_undone(caplog):
    model = model_of({"action": "stop", "patience": 2})
    with torch.no_grad():
        model.graph["dec"].body[2].weight.mul_(1e-3)
    with caplog.at_level(logging.WARNING, "fusion_engine"):
        fitted(model)
    assert model.progress.step == 12
    assert caplog.text.count("it was never better") == 1


def test_looking_changes_nothing():
    seen, unseen = fitted(model_of({})), fitted(model_of(None))
    for a, b in zip(seen.graph.parameters(), unseen.graph.parameters(), strict=True):
        assert torch.equal(a, b)
    row = seen.progress.history[-1]
    assert row["monitor/coverage"] == pytest.approx(1, abs=0.1)
    assert row["monitor/duplicates"] < 0.15
    assert abs(row["monitor/distance"]) < 0.1


def test_a_stage_ends_when_the_distance_no_longer_falls():
    until = {"metric": "monitor/distance", "patience": 2, "delta": 0.5}
    model = fitted(model_of({}, steps=400, until=until))
    assert model.progress.step == 12  # an epoch has 4 steps: the first sets the mark, two do not better it


@pytest.mark.parametrize(
    ("monitor", "until", "said"),
    [
        (None, "monitor/coverage", "add train.monitor"),
        ({}, "monitor/covrage", "did you mean 'monitor/coverage'"),
        ({"action": "panic"}, None, "warn"),
    ],
)
def test_wrong_configs_are_told(monitor, until, said):
    stage = {"until": {"metric": until}} if until else {}
    with pytest.raises(ConfigError, match=said):
        model_of(monitor, **stage)


def test_too_few_rows_and_nothing_generated_are_told():
    with pytest.raises(ConfigError, match="too few rows to watch by"):
        model_of({}).fit({"x": list(DATA[:40].numpy())})
    classifier = Engine().recipe(
        "classifier", {"x": "modality/tabular.number", "label": "modality/tabular.category"}, target="label", epochs=1
    )
    plain = classifier.config.plain()
    plain["train"]["monitor"] = {}
    rows = {"x": list(DATA.numpy()), "label": [int(v > 0) for v in DATA[:, 0]]}
    with pytest.raises(ConfigError, match="nothing is generated"):
        Engine().build(plain).fit(rows)
