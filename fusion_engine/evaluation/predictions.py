"""Scores of predictions: categories, several labels at once, numbers.

Each stands beside chance: what the same predictions for every row would score, the classes' shares among the targets
(the targets' means, for numbers), which know nothing of the row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fusion_engine.errors import DataError

Probabilities = Float[Tensor, "_ _"]
"""[n v]: n rows, v classes. Sizes that do not fit are refused in words."""
Targets = Int[Tensor, " _"]
"""[n]: indices of classes."""
BINS = 15
"""Of the calibration error."""
ROUNDING = 1e-4
"""How far probabilities may sum to something else than one."""


@dataclass(frozen=True)
class Score:
    """One number about predictions.

    Args:
        name: of what.
        value: of the predictions.
        chance: of predictions that know nothing of the row; None where that says nothing.
        higher: whether more is better.
    """

    name: str
    value: float
    chance: float | None = None
    higher: bool = True


@dataclass(frozen=True)
class ClassScore:
    """How well one class is found: zero precision where nobody predicts it, zero recall where it does not occur."""

    precision: float
    recall: float
    f1: float
    rows: int
    """that are of this class"""


def classification(probabilities: Probabilities, targets: Targets) -> list[Score]:
    """Score class probabilities: accuracy, precision, recall, F1, AUROC, log loss, calibration error, Brier score.

    Macro averages are over the classes that occur or are predicted, balanced accuracy is over those that occur, AUROC
    (one against the rest) over those that occur in some rows and not in all; where there is none it is left out.

        calibration error = sum over 15 bins of confidence: share of rows * |accuracy - mean confidence|
        Brier score       = mean over rows of sum over classes (p - [class])²

    Calibration: Guo et al., ICML 2017, arXiv:1706.04599. A probability of zero for the true class counts as 2e-16.

    Raises:
        DataError: NaN or infinite values, rows that are no distributions, targets outside the classes, no rows.
    """
    p = _distributions(probabilities, targets)
    shares = _one_hot(targets, p.shape[1]).mean(0)
    guessed = {score.name: score.value for score in _classification(shares.expand_as(p), targets)}
    without = {"calibration error": None}
    return [replace(score, chance=(guessed | without)[score.name]) for score in _classification(p, targets)]


def _classification(p: Tensor, targets: Tensor) -> list[Score]:
    from torchmetrics.functional import classification as measures  # takes seconds to import

    v, truth = p.shape[1], _one_hot(targets, p.shape[1])
    classes = class_scores(p, targets)
    found = [
        Score("accuracy", float((p.argmax(1) == targets).double().mean())),
        Score("balanced accuracy", _mean([c.recall for c in classes if c.rows])),
    ]
    for name in ("precision", "recall", "f1_score"):
        measure = getattr(measures, f"multiclass_{name}")
        for average in ("macro", "weighted"):
            title = f"{'F1' if name == 'f1_score' else name}: {average}"
            found.append(Score(title, float(measure(p, targets, v, average=average))))
    found += _auroc(p, truth)
    error = float(measures.multiclass_calibration_error(p, targets, v, n_bins=BINS, norm="l1"))
    own = p.gather(1, targets[:, None]).clamp(min=torch.finfo(p.dtype).eps)
    return [
        *found,
        Score("log loss", float(-own.log().mean()), higher=False),
        Score("calibration error", error, higher=False),
        Score("Brier score", float((p - truth).square().sum(1).mean()), higher=False),
    ]


def class_scores(probabilities: Probabilities, targets: Targets) -> list[ClassScore]:
    """Return precision, recall and F1 of each class, and how many rows are of it.

    Raises:
        DataError: as ``classification``.
    """
    from torchmetrics.functional import classification as measures

    p = _distributions(probabilities, targets)
    v = p.shape[1]
    columns = [
        getattr(measures, f"multiclass_{name}")(p, targets, v, average=None).tolist()
        for name in ("precision", "recall", "f1_score")
    ]
    rows = torch.bincount(targets, minlength=v).tolist()
    return [ClassScore(*values) for values in zip(*columns, rows, strict=True)]


def confusion(probabilities: Probabilities, targets: Targets) -> Int[Tensor, "v v"]:
    """Count the rows of class i that are taken for class j, in row i and column j.

    Raises:
        DataError: as ``classification``.
    """
    p = _distributions(probabilities, targets)
    v = p.shape[1]
    return torch.bincount(targets * v + p.argmax(1), minlength=v * v).reshape(v, v)


def multi_label(
    probabilities: Probabilities, targets: Bool[Tensor, "_ _"], said: Bool[Tensor, "_ _"] | None = None
) -> list[Score]:
    """Score the probabilities of labels of which a row may have any number.

    ``said`` are the labels that are decided for; by default those with a probability of at least one half.

    Exact match is the share of rows with every label right, accuracy the share of right cells. AUROC is a mean over
    the labels that some rows have and others lack.

    Raises:
        DataError: NaN, values outside 0 to 1, targets of another shape, no rows.
    """
    _check(probabilities, targets.shape)
    p = probabilities.detach().double()
    shares = targets.double().mean(0)
    guess = shares.expand_as(p)
    guessed = {score.name: score.value for score in _multi_label(guess, targets, guess >= 0.5)}
    found = _multi_label(p, targets, p >= 0.5 if said is None else said)
    return [replace(score, chance=guessed[score.name]) for score in found]


def _multi_label(p: Tensor, targets: Tensor, decided: Tensor) -> list[Score]:
    from torchmetrics.functional.classification import multilabel_f1_score

    right, truth, v = decided == targets, targets.double(), p.shape[1]
    eps = torch.finfo(p.dtype).eps
    own = torch.where(targets, p, 1 - p).clamp(min=eps)
    said = decided.double()
    averages = ("macro", "micro", "weighted")
    return [
        Score("exact match", float(right.all(1).double().mean())),
        Score("accuracy", float(right.double().mean())),
        *(Score(f"F1: {a}", _f1(multilabel_f1_score, said, targets, v, a)) for a in averages),
        *_auroc(p, truth),
        Score("log loss", float(-own.log().mean()), higher=False),
        Score("Brier score", float((p - truth).square().mean()), higher=False),
    ]


def _f1(measure: object, said: Tensor, targets: Tensor, v: int, average: str) -> float:
    if v > 1:
        return float(measure(said, targets.long(), v, average=average))  # type: ignore[operator]
    hits = float((said.bool() & targets).sum())
    return 2 * hits / max(1.0, float(said.sum() + targets.sum()))


def regression(predictions: Float[Tensor, "_ _"], targets: Float[Tensor, "_ _"]) -> list[Score]:
    """Score predicted numbers: MAE and RMSE over all of them, R² as the mean over channels.

    R² is left out where a channel's targets do not vary.

    Raises:
        DataError: NaN or infinite values, targets of another shape, no rows.
    """
    for x in (predictions, targets):
        _finite(x, targets.shape)
    x, y = (x.detach().double().contiguous() for x in (predictions, targets))
    mean = y.mean(0, keepdim=True).expand_as(y).contiguous()
    guessed = {score.name: score.value for score in _regression(mean, y)}
    return [replace(score, chance=guessed[score.name]) for score in _regression(x, y)]


def _regression(x: Tensor, y: Tensor) -> list[Score]:
    from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score

    found = [
        Score("MAE", float(mean_absolute_error(x, y)), higher=False),
        Score("RMSE", float(mean_squared_error(x, y, squared=False)), higher=False),
    ]
    varies = len(y) > 1 and bool((y != y[0]).any(0).all())
    return [*found, Score("R2", float(r2_score(x, y)))] if varies else found


def _auroc(p: Tensor, truth: Tensor) -> list[Score]:
    """Average the areas under the curves of the columns in which both answers occur."""
    from torchmetrics.functional.classification import binary_auroc

    both = [j for j in range(p.shape[1]) if 0 < float(truth[:, j].sum()) < len(truth)]
    areas = [float(binary_auroc(p[:, j], truth[:, j].long())) for j in both]
    return [Score("AUROC", _mean(areas))] if areas else []


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _one_hot(targets: Tensor, v: int) -> Tensor:
    return torch.nn.functional.one_hot(targets, v).double()


def _distributions(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Check probabilities [n v] of classes and targets [n]; return them in float64, each row's sum exactly one."""
    _check(probabilities, (len(targets), probabilities.shape[1]))
    v, p = probabilities.shape[1], probabilities.detach().double()
    sums = p.sum(1, keepdim=True)
    if v < 2 or bool(((sums - 1).abs() > ROUNDING).any()):
        actual = f"{v} classes, sums {float(sums.min()):.4g} to {float(sums.max()):.4g}"
        raise DataError("rows are no distributions over classes", expected="two or more, sums of 1", actual=actual)
    if int(targets.min()) < 0 or int(targets.max()) >= v:
        actual = f"{int(targets.min())} to {int(targets.max())}"
        raise DataError("targets are none of the classes", expected=f"0 to {v - 1}", actual=actual)
    return p / sums


def _check(probabilities: Tensor, shape: Sequence[int]) -> None:
    _finite(probabilities, shape)
    low, high = float(probabilities.min()), float(probabilities.max())
    if low < 0 or high > 1 + ROUNDING:
        raise DataError("predictions are no probabilities", expected="0 to 1", actual=f"{low:.4g} to {high:.4g}")


def _finite(x: Tensor, shape: Sequence[int]) -> None:
    if tuple(x.shape) != tuple(shape) or not x.numel():
        expected = f"{list(shape)}, at least one row"
        raise DataError("predictions and targets do not fit", expected=expected, actual=str(list(x.shape)))
    if not bool(torch.isfinite(x).all()):
        raise DataError("predictions or targets hold NaN or Inf", fix="look at the model and at what it was given")
