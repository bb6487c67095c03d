"""Figures of a model's predicting heads on test rows: from all that a row has, and from each subset of modalities."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, cast

import torch
from jaxtyping import Bool
from torch import Tensor

from fusion_engine.components import CategoryModality, NumberModality, TagsModality
from fusion_engine.config import EvaluationConfig, NoiseConfig
from fusion_engine.data import Prepared
from fusion_engine.errors import FusionError
from fusion_engine.evaluation import Curve, Score, classification, corrupted, curves, multi_label, regression
from fusion_engine.evaluation.corruptions import Corruption
from fusion_engine.judging import Judge, predicting_heads, whole_rows
from fusion_engine.measuring import Figure, figures, interval
from fusion_engine.model import FusionModel
from fusion_engine.values import Signal

Rows = Sequence[Mapping[str, Any]]
SHARES: Mapping[type, str] = {CategoryModality: "accuracy", TagsModality: "exact match"}
"""The score that is a share of rows, and so has an interval."""
FAMILIES: tuple[type, ...] = (CategoryModality, TagsModality, NumberModality)
"""What a head may predict; the first of its scores is measured for every subset."""
LESS = "less is better"
"""How the note of a figure ends where it is so."""


@dataclass(frozen=True, eq=False)
class Exam:
    """One head, and the rows that have what it predicts.

    Args:
        model: trained.
        head: the node.
        rows: each has the head's target.
    """

    model: FusionModel
    head: str
    rows: Rows

    @property
    def target(self) -> str:
        """What the head predicts."""
        return str(self.model.graph.wiring.nodes[self.head].out)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The modalities that it predicts from, its target left out."""
        above = self.model.graph.wiring.ancestors(self.head)
        return tuple(m for m in self.model.modalities if m in above and m != self.target)

    @cached_property
    def targets(self) -> Tensor:
        """What is right: indices [n], tags [n v], numbers [n c] in the modality's own units."""
        modality = self.model.modalities[self.target]
        if isinstance(modality, NumberModality):
            return _numbers([row[self.target] for row in self.rows])
        prepared = Prepared(self.rows, {self.target: modality})
        return modality.collate([cast(Signal, prepared[i][self.target]) for i in range(len(self.rows))]).data

    @cached_property
    def _prepared(self) -> Prepared:
        return Prepared(self.rows, {m: self.model.modalities[m] for m in self.sources})

    def answers(self, names: Sequence[str] = ()) -> Tensor:
        """Return probabilities [n v], or numbers [n c], from the given modalities alone; all sources by default."""
        given = self._prepared.only(names) if names else self._prepared
        if isinstance(self.model.modalities[self.target], NumberModality):
            return _numbers(self.model.predict(given, self.head))
        return self.model.predict_proba(given, self.head).cpu()

    def scores(self, names: Sequence[str] = (), having: Sequence[str] = ()) -> list[Score]:
        """Score the answers from the given modalities, on the rows that have those of ``having``; none without rows."""
        chosen = self.having(having)
        if not chosen:
            return []
        answers, targets = self.answers(names)[chosen], self.targets[chosen]
        if isinstance(self.model.modalities[self.target], TagsModality):
            return multi_label(answers, targets > 0.5, self._tags(names)[chosen])
        return (regression if self.family is NumberModality else classification)(answers, targets)

    @property
    def family(self) -> type:
        """The family of what the head predicts."""
        return next(kind for kind in FAMILIES if isinstance(self.model.modalities[self.target], kind))

    def _tags(self, names: Sequence[str]) -> Bool[Tensor, "n v"]:
        """The tags that the head decides for, by its own threshold."""
        given = self._prepared.only(names) if names else self._prepared
        modality = self.model.modalities[self.target]
        return torch.stack([modality.prepare(raw).data > 0.5 for raw in self.model.predict(given, self.head)])

    def having(self, names: Sequence[str]) -> list[int]:
        """The rows that have every one of the names."""
        return [i for i, row in enumerate(self.rows) if all(row.get(m) is not None for m in names)]


def _numbers(raws: Sequence[Any]) -> Tensor:
    return torch.stack([torch.as_tensor(raw, dtype=torch.float64).reshape(-1) for raw in raws])


def exams(model: FusionModel, rows: Rows) -> list[Exam]:
    """Ask every predicting head about the rows that have its target; heads without such rows or inputs are left out."""
    asked = [Exam(model, head, _asked(model, head, rows)) for head in predicting_heads(model)]
    return [e for e in asked if e.rows and e.sources and isinstance(model.modalities[e.target], FAMILIES)]


def _asked(model: FusionModel, head: str, rows: Rows) -> Rows:
    return whole_rows(rows, [str(model.graph.wiring.nodes[head].out)])


def prediction_figures(model: FusionModel, test: Rows, noise: Mapping[str, NoiseConfig] | None = None) -> list[Figure]:
    """Measure every predicting head: all scores from what each row has, its first one from every subset of modalities.

    A subset is measured on the rows that have all of it; the others are taken out of them. The first score is also
    followed over the noise of each modality that the head sees: ``accuracy under noise: image`` is the area under it.
    Of several heads each is named: ``accuracy of classify``. A model without such heads has no figures.
    """
    found = exams(model, test)
    return [
        figure for exam in found for figure in _figures(exam, f" of {exam.head}" if len(found) > 1 else "", noise or {})
    ]


def _figures(exam: Exam, of: str, noise: Mapping[str, NoiseConfig]) -> Iterator[Figure]:
    for score in exam.scores():
        name, colon, rest = score.name.partition(": ")
        yield _figure(exam, f"{name}{of}{colon}{rest}", score, len(exam.rows))
    yield from _of_subsets(exam, of)
    for modality in (m for m in exam.sources if m in noise):
        yield _under_noise(exam, of, modality, noise[modality])


def _of_subsets(exam: Exam, of: str) -> Iterator[Figure]:
    single: dict[str, Score] = {}
    for size in range(1, len(exam.sources) + 1):
        for subset in combinations(exam.sources, size):
            for score in exam.scores(subset, subset)[:1]:
                yield _figure(exam, f"{score.name}{of}: {'+'.join(subset)}", score, len(exam.having(subset)))
                if size == 1:
                    single[subset[0]] = score
    if len(single) > 1:
        best = max(single, key=lambda m: single[m].value * (1 if single[m].higher else -1))
        name = f"best single {single[best].name}{of}"
        yield _figure(exam, name, single[best], len(exam.having([best])), f"{best}; ")


def _under_noise(exam: Exam, of: str, modality: str, noise: NoiseConfig) -> Figure:
    curve = _curves(exam, modality, noise.levels, noise.corrupt, 0)[0]
    points = ", ".join(f"{value:.3f} at {level:g}" for level, value in zip(curve.levels, curve.values, strict=True))
    return Figure(f"{curve.name}{of} under noise: {modality}", curve.area, None, None, f"area under {points}")


def _figure(exam: Exam, name: str, score: Score, n: int, note: str = "") -> Figure:
    note += f"{interval(score.value, n)}, of {n} rows" if score.name == SHARES.get(exam.family) else f"of {n} rows"
    return Figure(name, score.value, None, score.chance, note + ("" if score.higher else f"; {LESS}"))


def all_figures(
    model: FusionModel, judges: Mapping[str, Judge], train: Rows, test: Rows, settings: EvaluationConfig
) -> list[Figure]:
    """Measure what a model makes, where there are judges of it, and what its heads predict."""
    made = figures(model, judges, train, test, settings) if judges else []
    return [*made, *prediction_figures(model, test, settings.noise)]


def robustness(
    model: FusionModel,
    rows: Rows,
    modality: str,
    levels: Sequence[float],
    corrupt: str | Corruption,
    *,
    head: str | None = None,
    seed: int = 0,
) -> list[Curve]:
    """Score a head's predictions while one modality gets worse: a curve for every score, and the area under it.

    Args:
        model: trained.
        rows: that have what the head predicts, best of the test split.
        modality: which one is corrupted, in every row that has it; the others stay as they are.
        levels: of the corruption, in its own unit.
        corrupt: image, sound, sequence, or a function (raw, level, generator) -> raw.
        head: whose predictions; the first one's by default.
        seed: of the noise, which is the same at each level.

    Raises:
        FusionError: the model has no such head or it does not see the modality. DataError: the levels make no curve.
    """
    asked = {exam.head: exam for exam in exams(model, rows)}
    exam = asked.get(head or next(iter(asked), ""))
    if exam is None or modality not in exam.sources:
        seen = ", ".join(f"{name} from {', '.join(e.sources)}" for name, e in asked.items())
        problem = f"no head {head!r} predicts from {modality!r}" if head else f"no head predicts from {modality!r}"
        raise FusionError(problem, expected=seen or "a predicting head, and rows with its target")

    return _curves(exam, modality, levels, corrupt, seed)


def _curves(exam: Exam, modality: str, levels: Sequence[float], corrupt: str | Corruption, seed: int) -> list[Curve]:
    def measured(level: float) -> list[Score]:
        return Exam(exam.model, exam.head, corrupted(exam.rows, modality, level, corrupt, seed=seed)).scores()

    return curves(measured, levels)
