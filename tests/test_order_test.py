"""The order test of a discriminator."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from fusion_engine import ConfigError, DataError, Engine, Noise, Signal
from fusion_engine.order_test import compare_orders, order_test


def test_the_area_is_that_of_scikit_learn_ties_included():
    g = torch.Generator().manual_seed(0)
    real, shuffled = (torch.randint(0, 9, (40,), generator=g).double() + shift for shift in (2, 0))
    found = compare_orders(real, shuffled)
    truth = [1] * 40 + [0] * 40
    assert found.auroc == pytest.approx(roc_auc_score(truth, torch.cat([real, shuffled])))
    assert found.minds_order
    assert compare_orders(shuffled, real).auroc == pytest.approx(1 - found.auroc)


def test_the_interval_is_what_exchanging_the_scores_of_pairs_gives():
    """Of three pairs all eight exchanges can be written down."""
    real, shuffled = torch.tensor([3.0, 5.0, 6.0]), torch.tensor([1.0, 2.0, 4.0])
    areas = []
    for k in range(8):
        swap = torch.tensor([bool(k >> j & 1) for j in range(3)])
        a, b = torch.where(swap, shuffled, real), torch.where(swap, real, shuffled)
        areas.append(float((a[:, None] > b).double().mean()))
    found = compare_orders(real, shuffled, draws=4000, level=0.9)
    assert found.low == pytest.approx(min(areas))
    assert found.high == pytest.approx(max(areas))
    assert not found.minds_order


def test_under_the_null_hypothesis_the_interval_holds_the_area_about_as_often_as_it_says():
    g = torch.Generator().manual_seed(1)
    inside = 0
    for seed in range(200):
        level, noise = torch.randn(30, generator=g), torch.randn(2, 30, generator=g)
        found = compare_orders(*(level + noise).double(), draws=200, level=0.9, seed=seed)
        inside += found.low <= found.auroc <= found.high
    assert 165 <= inside <= 198


@pytest.mark.parametrize(("real", "shuffled"), [([1.0], [0.0]), ([1.0, 2.0], [0.0]), ([1.0, float("nan")], [0.0, 1.0])])
def test_what_is_no_pairs_is_refused(real, shuffled):
    with pytest.raises(DataError):
        compare_orders(torch.tensor(real), torch.tensor(shuffled))


def model(encoder):
    x = {"use": "modality/sequence", "with": {"channels": 1, "length": 6, "binary": []}, "encoder": encoder}
    return Engine().recipe("gan", {"x": x, "label": "modality/category"}, given=["label"], latent=2, width=4)


def test_it_scores_the_rows_that_have_the_sequence_as_they_are_and_shuffled():
    made = model("encoder/sequence.rnn")
    rows = [{"x": [float(i), 1.0, 2.0, float(-i)][: 2 + i % 3], "label": i % 2} for i in range(8)]
    rows[3]["x"] = None
    made.prepare(rows)
    found = order_test(made, rows, "x", seed=4)
    assert found.n == 7
    run = next(iter(made.runs(rows, seed=4)))
    real = run.score("score")[run.present("x")]
    luck = Noise(0, torch.arange(8), 8).at("use", 4, 0).at("order", "x").uniform(6)
    data = run.signal("x").data.clone()
    for i, row in enumerate(rows):
        n = len(row["x"] or [])
        data[i, :n] = data[i, luck[i, :n].argsort()]
    replayed = run.replay({"x": Signal(data, run.signal("x").mask)})
    shuffled = replayed.score("score")[run.present("x")]
    truth = [1] * 7 + [0] * 7
    assert not torch.allclose(real, shuffled)
    assert found.auroc == pytest.approx(roc_auc_score(truth, torch.cat([real, shuffled]).detach()))


def test_words_for_what_cannot_be_tested():
    made = model("encoder/sequence.rnn")
    rows = {"x": [[1.0], [2.0]], "label": [0, 1]}
    with pytest.raises(ConfigError, match="no score 'scor'"):
        order_test(made, rows, "x", "scor")
    with pytest.raises(ConfigError, match="does not look at 'y'"):
        order_test(made, rows, "y")
    with pytest.raises(ConfigError, match="no order of time"):
        order_test(made, rows, "label")
    classifier = Engine().recipe("classifier", {"x": "modality/sequence", "label": "modality/category"})
    with pytest.raises(ConfigError, match="models with a discriminator"):
        order_test(classifier, rows, "x")
