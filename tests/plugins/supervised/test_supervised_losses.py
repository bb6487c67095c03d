import math

import pytest
import torch
from torch.testing import assert_close

from fusion_engine import Batch, BuildError, FusionError, Run, Signal
from fusion_engine.predicting import prediction_figures
from fusion_engine.testing import toy_batch, toy_graph
from fusion_engine_supervised.binary_cross_entropy import BinaryCrossEntropy
from fusion_engine_supervised.huber import Huber
from fusion_engine_supervised.ordinal_loss import OrdinalLoss
from fusion_engine_supervised.squared_error import SquaredError


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def cross_entropy(output, target):
    terms = [-(x * math.log(sigmoid(o)) + (1 - x) * math.log(sigmoid(-o))) for o, x in zip(output, target, strict=True)]
    return sum(terms) / len(terms)


def squared(output, target):
    return sum((o - x) ** 2 for o, x in zip(output, target, strict=True)) / len(output)


def huber(output, target):
    errors = [abs(o - x) for o, x in zip(output, target, strict=True)]
    return sum(e * e / 2 if e <= 0.3 else 0.3 * (e - 0.15) for e in errors) / len(errors)


def ordinal(output, target):
    above = [1.0, *map(sigmoid, output), 0.0]
    return -math.log(above[target] - above[target + 1])


CASES = [
    (BinaryCrossEntropy, {"head": "mark"}, "tags", cross_entropy),
    (SquaredError, {"head": "estimate"}, "vector", squared),
    (Huber, {"head": "estimate", "delta": 0.3}, "vector", huber),
    (OrdinalLoss, {"head": "rank"}, "label", ordinal),
]


def whole_precision(batch):
    signals = {
        m: Signal(s.data.double(), s.mask) if s.data.is_floating_point() else s for m, s in batch.signals.items()
    }
    return Batch(signals, batch.present, batch.index, batch.total)


@pytest.mark.parametrize(("loss", "config", "target", "formula"), CASES, ids=lambda x: getattr(x, "__name__", ""))
def test_equals_a_loop_over_the_rows_that_have_the_target_and_an_input(loss, config, target, formula):
    graph = toy_graph().double()
    batch = whole_precision(toy_batch(graph))
    run = Run(graph, batch, player="generator", sample=True)
    term = loss(graph, **config)(run, "generator")
    total, count = 0.0, 0
    for row in range(len(batch)):
        here = {m: bool(p[row]) for m, p in batch.present.items()}
        if here[target] and (here["vector"] or here["series"]):
            total += formula(run[config["head"]][row].tolist(), batch.signals[target].data[row].tolist())
            count += 1
    assert 0 < count < len(batch)
    assert int(term.count) == count
    assert float(term.sum.detach()) == pytest.approx(total, rel=1e-9)


def test_what_a_head_predicts_must_fit_the_loss():
    graph = toy_graph()
    with pytest.raises(BuildError, match=r"(?s)'classify' predicts something else.*a TagsModality.*out: label"):
        BinaryCrossEntropy(graph, head="classify")
    with pytest.raises(BuildError, match=r"(?s)NumberModality.*out: None"):
        SquaredError(graph, head="score")
    with pytest.raises(BuildError, match=r"(?s)no cumulative logits.*3 outputs for 4 classes.*4 outputs"):
        OrdinalLoss(graph, head="classify")


# From raw data to raw predictions

N = 120


def data():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(N, 2, generator=g)
    size = 30 * x[:, 0] + 500
    return {
        "x": x.tolist(),
        "tags": [{n for n, here in zip(("up", "right"), (b > 0, a > 0), strict=True) if here} for a, b in x.tolist()],
        "price": [None if i % 5 == 0 else float(v) for i, v in enumerate(size)],
        "level": [("low", "middle", "high")[int(a > -0.6) + int(a > 0.6)] for a, _ in x.tolist()],
    }


def trained(engine, target, head, loss, config):
    graph = {
        "modalities": {
            "x": {"use": "modality/number"},
            target: {"use": f"modality/{'category' if target == 'level' else config}", "with": {}},
        },
        "nodes": {
            "enc": {"use": "encoder/numbers", "in": "x"},
            "predict": {"use": f"head/{head}", "in": "enc", "out": target},
        },
        "losses": {"loss": {"use": f"loss/{loss}", "with": {"head": "predict"}}},
        "stages": [{"name": "train", "epochs": 60, "losses": ["loss"]}],
        "train": {"batch_size": 40, "optimizer": {"generator": {"lr": 0.01}}},
    }
    if target == "level":
        graph["modalities"][target]["with"] = {"classes": ["low", "middle", "high"]}
    columns = data()
    return engine.build(graph).fit({m: columns[m] for m in ("x", target)}), columns


def test_tags_are_learned_and_predicted_as_sorted_lists(engine, tmp_path):
    model, columns = trained(engine, "tags", "multi_label", "binary_cross_entropy", "tags")
    found = model.predict({"x": columns["x"]})
    right = sum(a == sorted(b) for a, b in zip(found, columns["tags"], strict=True))
    assert right >= 0.95 * N
    p = model.predict_proba({"x": columns["x"]})
    assert [[t for t, q in zip(("right", "up"), row, strict=True) if q >= 0.5] for row in p.tolist()] == found
    loaded = engine.load(model.save(tmp_path / "model"))
    assert torch.equal(loaded.predict_proba({"x": columns["x"]}), p)
    assert model.impute([{"x": columns["x"][0], "tags": None}])[0]["tags"] == found[0]


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_numbers_are_learned_and_predicted_in_raw_units(engine, loss):
    model, columns = trained(engine, "price", "regression", loss, "number")
    found = model.predict({"x": columns["x"]})
    errors = [abs(f - (30 * a + 500)) for f, (a, _) in zip(found, columns["x"], strict=True)]
    assert sum(errors) / N < 3.0  # the deviation is 30; prices of every fifth row were never seen
    with pytest.raises(FusionError, match="no class probabilities"):
        model.predict_proba({"x": columns["x"]})


def test_ordered_classes_are_learned_and_predicted(engine):
    model, columns = trained(engine, "level", "ordinal", "ordinal", "")
    found = model.predict({"x": columns["x"]})
    assert sum(a == b for a, b in zip(found, columns["level"], strict=True)) >= 0.9 * N
    p = model.predict_proba({"x": columns["x"]})
    assert_close(p.sum(1), torch.ones(N))
    assert [("low", "middle", "high")[i] for i in p.argmax(1)] == found


def test_cross_entropy_of_cumulative_logits_is_refused(engine):
    config = trained(engine, "level", "ordinal", "ordinal", "")[0].config.plain()
    (name,) = config["losses"]
    config["losses"][name] = {"use": "loss/cross_entropy", "with": {"head": config["losses"][name]["with"]["head"]}}
    with pytest.raises(BuildError, match=r"(?s)one logit a class.*3 logits.*loss/ordinal"):
        engine.build(config)


def test_figures_of_tags_follow_the_threshold_of_the_head(engine):
    model, columns = trained(engine, "tags", "multi_label", "binary_cross_entropy", "tags")
    config = model.config.plain()
    head = next(n for n, node in config["nodes"].items() if "multi_label" in node["use"])
    config["nodes"][head]["with"]["threshold"] = 0.9
    stricter = engine.build(config)
    stricter.graph.load_state_dict(model.graph.state_dict())
    data = [{"x": x, "tags": t} for x, t in zip(columns["x"], columns["tags"], strict=True) if t is not None]
    found = {f.name: f for f in prediction_figures(stricter, data)}
    said = stricter.predict({"x": [row["x"] for row in data]})
    share = sum(a == sorted(row["tags"]) for a, row in zip(said, data, strict=True)) / len(data)
    assert found["exact match"].value == pytest.approx(share)
    assert found["exact match"].value < {f.name: f for f in prediction_figures(model, data)}["exact match"].value
    assert found["exact match"].note.startswith("95 %")
    assert not found["accuracy"].note.startswith("95 %")  # a share of cells, which are not independent
