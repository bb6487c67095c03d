"""Scores of predictions against scikit-learn, and by hand."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor

from fusion_engine import DataError
from fusion_engine.evaluation import (
    Score,
    class_scores,
    classification,
    confusion,
    multi_label,
    regression,
)

NONE = {"zero_division": 0}


def drawn(n: int, v: int, seed: int = 0, classes: int | None = None) -> tuple[Tensor, Tensor]:
    """Probabilities that know something of the targets; only the first ``classes`` occur."""
    g = torch.Generator().manual_seed(seed)
    targets = torch.randint(classes or v, (n,), generator=g)
    logits = torch.randn(n, v, generator=g, dtype=torch.float64)
    logits[torch.arange(n), targets] += 1.0
    return logits.softmax(-1), targets


def values(scores: list[Score]) -> dict[str, float]:
    return {score.name: score.value for score in scores}


@pytest.mark.parametrize(("v", "classes"), [(5, 5), (5, 3), (2, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_classification_agrees_with_scikit_learn(v: int, classes: int, dtype: torch.dtype) -> None:
    p, targets = drawn(200, v, classes=classes)
    found = values(classification(p.to(dtype), targets))
    y, said, q = targets.numpy(), p.argmax(1).numpy(), p.numpy()
    expected = {
        "accuracy": metrics.accuracy_score(y, said),
        "balanced accuracy": metrics.recall_score(y, said, labels=range(classes), average="macro"),
        "log loss": metrics.log_loss(y, q, labels=range(v)),
        "Brier score": np.mean(((q - np.eye(v)[y]) ** 2).sum(1)),
        "AUROC": np.mean([metrics.roc_auc_score(y == k, q[:, k]) for k in range(classes)]),
    }
    for name in ("precision", "recall", "f1"):
        for average in ("macro", "weighted"):
            title = f"{'F1' if name == 'f1' else name}: {average}"
            expected[title] = getattr(metrics, f"{name}_score")(y, said, average=average, **NONE)
    error = found.pop("calibration error")
    assert found == pytest.approx(expected, abs=1e-6)
    assert error == pytest.approx(by_bins(q, y), abs=1e-6)
    if v == 2:
        assert found["AUROC"] == pytest.approx(metrics.roc_auc_score(y, q[:, 1]))
    one_by_one = metrics.precision_recall_fscore_support(y, said, labels=range(v), **NONE)
    for k, score in enumerate(class_scores(p, targets)):
        assert (score.precision, score.recall, score.f1, score.rows) == pytest.approx([x[k] for x in one_by_one])
    assert confusion(p, targets).tolist() == metrics.confusion_matrix(y, said, labels=range(v)).tolist()


def by_bins(p: np.ndarray, y: np.ndarray) -> float:
    confidence, right = p.max(1), p.argmax(1) == y
    bins = np.clip((confidence * 15).astype(int), 0, 14)
    found = 0.0
    for k in range(15):
        if (bins == k).any():
            found += (bins == k).mean() * abs(confidence[bins == k].mean() - right[bins == k].mean())
    return found


def test_classification_by_hand() -> None:
    p = torch.tensor([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.9, 0.1]])
    found = {score.name: score for score in classification(p, torch.tensor([0, 1, 1, 0]))}
    assert found["accuracy"].value == 0.75
    assert found["balanced accuracy"].value == pytest.approx((1 + 0.5) / 2)
    assert found["precision: macro"].value == pytest.approx((2 / 3 + 1) / 2)
    assert found["AUROC"].value == 1.0  # both of class 1 stand above both of class 0
    assert found["log loss"].value == pytest.approx(-sum(map(math.log, (0.8, 0.4, 0.7, 0.9))) / 4)
    assert found["Brier score"].value == pytest.approx(2 * (0.04 + 0.36 + 0.09 + 0.01) / 4)
    # each confidence has a bin of its own: |.8 - 1|, |.6 - 0|, |.7 - 1|, |.9 - 1|
    assert found["calibration error"].value == pytest.approx((0.2 + 0.6 + 0.3 + 0.1) / 4)
    assert [name for name, score in found.items() if not score.higher] == [
        "log loss",
        "calibration error",
        "Brier score",
    ]


def test_chance_is_what_the_shares_of_the_classes_score_themselves() -> None:
    p, targets = drawn(40, 3)
    shares = np.bincount(targets, minlength=3) / 40
    chance = {score.name: score.chance for score in classification(p, targets)}
    assert chance["accuracy"] == pytest.approx(shares.max())
    assert chance["balanced accuracy"] == pytest.approx(1 / 3)
    assert chance["AUROC"] == pytest.approx(0.5)
    assert chance["log loss"] == pytest.approx(-(shares * np.log(shares)).sum())
    assert chance["Brier score"] == pytest.approx(1 - (shares**2).sum())
    assert chance["calibration error"] is None


def test_one_row_and_certainty() -> None:
    found = values(classification(torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([1])))
    assert found["accuracy"] == found["balanced accuracy"] == found["F1: macro"] == 1.0
    assert found["log loss"] == found["Brier score"] == found["calibration error"] == 0.0
    assert "AUROC" not in found  # no row is of another class
    wrong = values(classification(torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([0])))
    assert wrong["Brier score"] == 2
    assert wrong["log loss"] == pytest.approx(-math.log(np.finfo(float).eps))


def test_what_is_no_prediction_is_refused_in_words() -> None:
    p, targets = drawn(6, 3)
    broken = p.clone()
    broken[2, 1] = torch.nan
    cases = [
        (broken, targets, "NaN or Inf"),
        (p * 2, targets, "no probabilities|no distributions"),
        (p * 0.5, targets, "no distributions"),
        (p, targets + 1, "none of the classes"),
        (p, targets[:4], "do not fit"),
        (p[:0], targets[:0], "do not fit"),
        (torch.ones(6, 1), torch.zeros(6).long(), "no distributions"),
    ]
    for measure in (classification, class_scores, confusion):
        for probabilities, wanted, message in cases:
            with pytest.raises(DataError, match=message):
                measure(probabilities, wanted)
    with pytest.raises(DataError, match="NaN"):
        multi_label(broken, p > 0.3)
    with pytest.raises(DataError, match="NaN"):
        regression(p, broken)


def test_multi_label_agrees_with_scikit_learn() -> None:
    g = torch.Generator().manual_seed(0)
    targets = torch.rand(150, 4, generator=g) < torch.tensor([0.5, 0.2, 0.8, 0.0])  # the last one never occurs
    p = (torch.randn(150, 4, generator=g, dtype=torch.float64) + targets.double()).sigmoid()
    found = values(multi_label(p, targets))
    y, q, said = targets.numpy(), p.numpy(), (p > 0.5).numpy()
    f1 = partial(metrics.f1_score, y, said, **NONE)
    expected = {
        "exact match": metrics.accuracy_score(y, said),
        "accuracy": (y == said).mean(),
        **{f"F1: {a}": f1(average=a) for a in ("macro", "micro", "weighted")},
        "AUROC": np.mean([metrics.roc_auc_score(y[:, k], q[:, k]) for k in range(3)]),
        "log loss": np.mean([metrics.log_loss(y[:, k], q[:, k], labels=[False, True]) for k in range(4)]),
        "Brier score": np.mean([metrics.brier_score_loss(y[:, k], q[:, k]) for k in range(3)]) * 0.75
        + (q[:, 3] ** 2).mean() / 4,
    }
    assert found == pytest.approx(expected, abs=1e-6)
    one = values(multi_label(p[:, :1], targets[:, :1]))
    assert one["F1: macro"] == one["F1: micro"] == pytest.approx(metrics.f1_score(y[:, 0], said[:, 0]))


def test_regression_agrees_with_scikit_learn() -> None:
    g = torch.Generator().manual_seed(0)
    y = torch.randn(60, 3, generator=g, dtype=torch.float64) * torch.tensor([1.0, 5.0, 0.2])
    x = y + torch.randn(60, 3, generator=g, dtype=torch.float64)
    found = {score.name: score for score in regression(x, y)}
    assert found["MAE"].value == pytest.approx(metrics.mean_absolute_error(y, x))
    assert found["RMSE"].value == pytest.approx(metrics.mean_squared_error(y, x) ** 0.5)
    assert found["R2"].value == pytest.approx(metrics.r2_score(y, x))
    assert found["R2"].chance == pytest.approx(0, abs=1e-12)
    assert found["RMSE"].chance == pytest.approx(float((y - y.mean(0)).square().mean().sqrt()))
    assert [score.higher for score in found.values()] == [False, False, True]
    assert [score.name for score in regression(x[:1], y[:1])] == ["MAE", "RMSE"]
    assert [score.name for score in regression(x[:, :1], torch.ones(60, 1))] == ["MAE", "RMSE"]
