"""What a model's heads predict, as sections of the report: who is taken for whom, and how sure the model should be."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from torch import Tensor

from fusion_engine.components import CategoryModality
from fusion_engine.evaluation import class_scores, classification, confusion
from fusion_engine.model import FusionModel
from fusion_engine.predicting import Exam, exams

CLASSES = 20
"""Up to so many are shown as a matrix; of more, the pairs that are confused the most."""


def prediction_sections(model: FusionModel, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Write a section a head that predicts a category: title, and calibration and confusion matrix in Markdown."""
    asked = [exam for exam in exams(model, rows) if isinstance(model.modalities[exam.target], CategoryModality)]
    return [(f"Predictions of {exam.target}" + _by(exam, len(asked)), _section(exam)) for exam in asked]


def _by(exam: Exam, heads: int) -> str:
    return f" by {exam.head}" if heads > 1 else ""


def _section(exam: Exam) -> str:
    p, targets = exam.answers(), exam.targets
    names = [_cell(name) for name in cast(CategoryModality, exam.model.modalities[exam.target]).classes]
    found = {score.name: score.value for score in classification(p, targets)}
    sure = float(p.max(1).values.double().mean())
    told = (
        f"On {len(targets)} test rows the head is right in {found['accuracy']:.1%} and on average {sure:.1%} sure. "
        f"Its calibration error is {found['calibration error']:.3f}: by so much confidence and accuracy differ on "
        "average, over bins of confidence."
    )
    counts = confusion(p, targets)
    scores = [f"{c.precision:.3f} {c.recall:.3f} {c.f1:.3f}".split() for c in class_scores(p, targets)]
    table = _matrix(names, counts, scores) if len(names) <= CLASSES else _pairs(names, counts)
    return f"{told}\n\n{table}"


def _matrix(names: Sequence[str], counts: Tensor, scores: Sequence[Sequence[str]]) -> str:
    head = ["true class; columns: taken for", *names, "precision", "recall", "F1"]
    lines = zip(names, counts.tolist(), scores, strict=True)
    return _table(head, ([f"**{name}**", *map(str, row), *three] for name, row, three in lines))


def _pairs(names: Sequence[str], counts: Tensor) -> str:
    wrong = counts.clone().fill_diagonal_(0)
    order = wrong.flatten().argsort(descending=True, stable=True)[:CLASSES].tolist()
    pairs = [(names[k // len(names)], names[k % len(names)], int(wrong.flatten()[k])) for k in order]
    return _table(["true class", "taken for", "rows"], ([a, b, str(n)] for a, b, n in pairs if n))


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(name: object) -> str:
    """Write a class's name so that Markdown reads it as text, on one line."""
    text = " ".join(str(name).split())
    return "".join(f"\\{c}" if c in "\\|*_`[]<>#&!~" else c for c in text)
