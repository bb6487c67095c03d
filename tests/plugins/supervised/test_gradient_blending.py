import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from fusion_engine import ConfigError, FusionError
from fusion_engine_supervised.gradient_blending import (
    gradient_blending_weights,
    mean_loss,
    offline_gradient_blending,
    weighted,
)


def test_weights_are_those_computed_by_hand():
    """Gains 0.4, 0.2, 0.1; overfitting (0.8 - 0.4), (0.8 - 0.7), (0.9 - 0.7): ratios 2.5, 20, 2.5."""
    train = {"a": (1.0, 0.2), "b": (1.0, 0.7), "c": (1.0, 0.7)}
    validation = {"a": (1.0, 0.6), "b": (1.0, 0.8), "c": (1.0, 0.9)}
    assert gradient_blending_weights(train, validation) == pytest.approx({"a": 0.1, "b": 0.8, "c": 0.1})


def test_only_the_change_of_the_gap_between_the_losses_counts():
    train, validation = {"a": (1.0, 0.5), "b": (2.0, 1.0)}, {"a": (1.3, 0.9), "b": (2.0, 1.6)}
    # a: gain 0.4, gap 0.3 -> 0.4; b: gain 0.4, gap 0 -> 0.6
    assert gradient_blending_weights(train, validation) == pytest.approx({"a": 36 / 37, "b": 1 / 37})


def test_weights_minimise_the_squared_ratio_of_overfitting_to_generalisation():
    rng = np.random.default_rng(0)
    for _ in range(5):
        gain, overfit = rng.uniform(0.1, 1.0, 4), rng.uniform(0.2, 1.0, 4)
        names = "abcd"
        train = {n: (2.0, 2.0 - g - o) for n, g, o in zip(names, gain, overfit, strict=True)}
        validation = {n: (2.0, 2.0 - g) for n, g in zip(names, gain, strict=True)}

        def ratio(w, gain=gain, overfit=overfit):
            return (w**2 * overfit**2).sum() / (w @ gain) ** 2

        simplex = {"type": "eq", "fun": lambda w: w.sum() - 1}
        found = minimize(ratio, np.full(4, 0.25), bounds=[(0, 1)] * 4, constraints=simplex, options={"ftol": 1e-14})
        weights = np.array(list(gradient_blending_weights(train, validation).values()))
        np.testing.assert_allclose(weights, found.x, atol=1e-4)
        assert ratio(weights) <= found.fun + 1e-12


def test_weights_stay_finite_and_are_never_negative():
    train = {"worse": (1.0, 0.1), "even": (1.0, 0.9), "good": (1.0, 0.5)}
    validation = {"worse": (1.0, 2.0), "even": (1.0, 0.9), "good": (1.0, 0.6)}
    weights = gradient_blending_weights(train, validation, least=0.01)
    assert weights == pytest.approx({"worse": 0.0, "even": 1000 / 1040, "good": 40 / 1040})
    with pytest.raises(FusionError, match=r"(?s)no head lowers.*worse: 1 to 2.*fewer epochs"):
        gradient_blending_weights({"worse": (1.0, 0.1)}, {"worse": (1.0, 2.0)})
    with pytest.raises(FusionError, match="different heads"):
        gradient_blending_weights(train, {"good": (1.0, 0.6)})
    with pytest.raises(FusionError, match="not finite: good"):
        gradient_blending_weights({"good": (1.0, float("nan"))}, {"good": (1.0, 0.6)})


def rows(n, seed, noise=20):
    """``clear`` tells the class with a little doubt; ``noise`` has many numbers and tells nothing."""
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(2, (n,), generator=g)
    clear = (2.0 * label - 1)[:, None] + torch.randn(n, 2, generator=g)
    return {
        "clear": clear.tolist(),
        "noise": torch.randn(n, noise, generator=g).tolist(),
        "label": [("no", "yes")[i] for i in label.tolist()],
    }


MODALITIES = {"clear": "modality/number", "noise": "modality/number", "label": "modality/category"}
SMALL = {"width": 16, "lr": 0.005, "train": {"batch_size": 32, "schedule": "constant"}}


def test_a_modality_of_noise_that_overfits_gets_the_smallest_weight(engine):
    config = engine.recipe_config("auxiliary", MODALITIES, **SMALL)
    train, validation = rows(64, 0), rows(200, 1)
    weights = offline_gradient_blending(engine, config, train, validation, epochs=15)
    assert list(weights) == ["fused", "only_clear", "only_noise"]
    assert sum(weights.values()) == pytest.approx(1.0)
    assert weights["only_noise"] == min(weights.values())
    assert weights["only_noise"] < 0.05 < weights["only_clear"]
    blended = weighted(config, weights)
    assert [part["with"]["weight"] for part in blended["losses"].values()] == list(weights.values())
    again = engine.recipe_config("auxiliary", MODALITIES, weights=weights, **SMALL)
    assert again["losses"] == {n: blended["losses"][n] for n in again["losses"]}
    assert engine.build(blended).graph.loss("fused").weight == weights["fused"]
    with pytest.raises(FusionError, match="only_clear"):
        offline_gradient_blending(engine, config, train, validation, epochs=1, losses=["only_cleer"])
    with pytest.raises(FusionError, match="only_clear"):
        weighted(config, {"only_cleer": 1.0})


def test_the_mean_loss_is_over_the_rows_that_count(engine):
    model = engine.recipe("auxiliary", MODALITIES, **SMALL)
    table = rows(9, 2)
    table["noise"][3] = table["label"][4] = None
    model.prepare(table)
    for name, head, missing in [("only_noise", "predict_noise", {3, 4}), ("fused", "predict", {4})]:
        p = model.predict_proba({"clear": table["clear"], "noise": table["noise"]}, head)
        values = [-p[i, ("no", "yes").index(table["label"][i])].log() for i in range(9) if i not in missing]
        assert mean_loss(model, name, table) == pytest.approx(float(torch.stack(values).mean()), rel=1e-5)
    with pytest.raises(FusionError, match="no row counts"):
        mean_loss(model, "only_noise", {"clear": table["clear"]})


def test_the_recipe_has_a_head_a_modality_and_predicts_with_the_fused_one(engine):
    model = engine.recipe("auxiliary", MODALITIES, epochs=20, weights={"only_noise": 0.0}, **SMALL)
    assert set(model.graph.wiring.of_kind("head")) == {"predict", "predict_clear", "predict_noise"}
    assert {n: model.graph.loss(n).weight for n in ("fused", "only_clear", "only_noise")} == {
        "fused": 1.0,
        "only_clear": 1.0,
        "only_noise": 0.0,
    }
    table = rows(64, 0)
    model.fit(table)
    inputs = {m: table[m] for m in ("clear", "noise")}
    assert model.predict(inputs) == model.predict(inputs, "predict")
    right = sum(a == b for a, b in zip(model.predict(inputs, "predict_clear"), table["label"], strict=True))
    assert right >= 50
    for options, words in [({"target": "labl"}, "did you mean 'label'"), ({"weights": {"noise": 1.0}}, "only_noise")]:
        with pytest.raises(ConfigError, match=words):
            engine.recipe("auxiliary", MODALITIES, **options)


def test_the_recipe_predicts_other_targets_too(engine):
    table = rows(32, 0)
    table["price"] = [10 * a + 100 for a, _ in table["clear"]]
    modalities = {"clear": "modality/number", "noise": "modality/number", "price": "modality/number"}
    options = {"target": "price", "head": "regression", "loss": "squared_error", "epochs": 2}
    model = engine.recipe("auxiliary", modalities, **options, **SMALL).fit({m: table[m] for m in modalities})
    assert all(isinstance(x, float) for x in model.predict({"clear": table["clear"]}, "predict_clear"))


@pytest.mark.parametrize("loss", ["fused", "only_clear", "only_noise"])
def test_each_loss_reaches_its_own_nodes_and_no_others(engine, loss):
    model = engine.recipe("auxiliary", MODALITIES, **SMALL)
    table = rows(6, 0)
    table["noise"][2] = None
    model.prepare(table)
    (run,) = model.runs(table)
    reached = {
        "fused": {"enc_clear", "enc_noise", "fused", "predict"},
        "only_clear": {"enc_clear", "predict_clear"},
        "only_noise": {"enc_noise", "predict_noise"},
    }
    model.graph.loss(loss)(run, "generator").sum.backward()
    nodes = model.graph.wiring.nodes
    learned = {
        n for n in nodes if any(p.grad is not None and bool((p.grad != 0).any()) for p in model.graph[n].parameters())
    }
    assert learned == reached[loss]
