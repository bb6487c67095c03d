"""Judge a trained generative model: judges are classifiers of each modality, trained on real data and frozen.

Every figure stands beside the one that real data gets, so that its best possible value is known.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fusion_engine.components import CategoryModality
from fusion_engine.config import EvaluationConfig
from fusion_engine.data import Prepared, Table
from fusion_engine.engine import Engine
from fusion_engine.errors import DataError
from fusion_engine.evaluation import (
    frechet_with_floor,
    joint_coherence,
    manifold_with_floor,
    memorising,
    wilson,
)
from fusion_engine.model import TRAINING, FusionModel
from fusion_engine.run import Run
from fusion_engine.values import Batch, Features, Signal

TARGET = "judged_label"
"""What a judge calls the label: a name that no modality is likely to have."""
DRAWS = 5
"""Sets of samples that a distance is averaged over."""


@dataclass(frozen=True)
class Figure:
    """One measured number beside what real data gets.

    Args:
        name: of what.
        value: of the model.
        real: of real data: the ceiling, or the floor of a distance.
        note: how to read it.
    """

    name: str
    value: float
    real: float
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Give plain containers, for JSON and CSV."""
        return asdict(self)


class Judge:
    """A frozen classifier of one modality: its classes and its features.

    Args:
        model: trained by the recipe ``classifier`` on one modality.
        modality: its name.
    """

    def __init__(self, model: FusionModel, modality: str) -> None:
        self.model, self.modality = model, modality
        model.graph.requires_grad_(False)

    @property
    def classes(self) -> Sequence[Any]:
        """Raw labels by index."""
        return cast(CategoryModality, self.model.modalities[TARGET]).classes

    @property
    def digest(self) -> str:
        """Name the judge's weights: a hash of all of them."""
        state = self.model.graph.state_dict()
        data = b"".join(state[key].cpu().contiguous().numpy().tobytes() for key in sorted(state))
        return hashlib.blake2b(data, digest_size=8).hexdigest()

    @torch.no_grad()
    def judge(self, signal: Signal) -> tuple[Int[Tensor, " b"], Float[Tensor, "b d"]]:
        """Return the class index of each row, and its features."""
        labels = self.model.modalities[TARGET].example(len(signal))
        batch = Batch.of({self.modality: signal, TARGET: labels}).to(self.model.device)
        run = Run(self.model.graph, batch, sample=False)
        return cast(Tensor, run["classify"]).argmax(-1).cpu(), cast(Features, run["fused"]).pooled.cpu()

    def indices(self, labels: Sequence[Any]) -> Int[Tensor, " b"]:
        """Turn raw labels into class indices."""
        index = {label: i for i, label in enumerate(self.classes)}
        return torch.tensor([index[label] for label in labels])


def check_label(
    model: FusionModel,
    train: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]],
    settings: EvaluationConfig,
) -> None:
    """Check that there is something to judge, and to judge by, before hours of training.

    Raises:
        DataError: no row has the label, the test split has a class that the training split lacks, or a modality that is
            to be judged never stands beside a label.
    """
    label = settings.label
    known, asked = ({row[label] for row in _whole(rows, [label])} for rows in (train, test))
    where = "config, 'evaluation'"
    if not known:
        columns = ", ".join(Table(train).names)
        fix = "add the label to the data set's modalities"
        raise DataError(f"the data has no column {label!r} to judge by", where=where, actual=columns, fix=fix)
    if asked - known:
        unseen = ", ".join(map(str, asked - known))
        raise DataError(
            "the test split has classes that no judge has learned",
            where=where,
            actual=unseen,
            fix="split the data anew",
        )
    for name in _judged(model, settings):
        for split, rows in (("training", train), ("test", test)):
            if not _whole(rows, [name, label]):
                raise DataError(f"no row of the {split} split has both {name!r} and {label!r}", where=where)


def _whole(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """Keep the rows that have every one of the names."""
    return [row for row in Table(rows) if all(row.get(name) is not None for name in names)] if len(rows) else []


def _judged(model: FusionModel, settings: EvaluationConfig) -> list[str]:
    """What is judged: every modality that the model decodes, but not the label itself."""
    return [m for m in model.modalities if model.graph.wiring.decoder_of(m) and m != settings.label]


def train_judges(
    engine: Engine, model: FusionModel, rows: Sequence[Mapping[str, Any]], settings: EvaluationConfig
) -> dict[str, Judge]:
    """Train one judge for every modality that the model decodes, the label itself left out.

    Raises:
        KeyboardInterrupt: a judge was interrupted; half a judge judges nothing.
    """
    judges = {}
    for name in _judged(model, settings):
        part = model.config.modalities[name]
        chosen: dict[str, Any] = {name: {"use": part.use, "with": part.with_}, TARGET: "modality/tabular.category"}
        options: dict[str, Any] = {"fusion": "concat", "width": 64, "epochs": settings.epochs}
        judge = engine.recipe("classifier", chosen, target=TARGET, name=f"judge of {name}", **options)
        whole = _whole(rows, [name, settings.label])
        judge.fit([{name: row[name], TARGET: row[settings.label]} for row in whole])
        if judge.metrics["interrupted"]:
            raise KeyboardInterrupt
        judges[name] = Judge(judge, name)
    return judges


@dataclass(frozen=True)
class Judged:
    """Real rows as the judges see them: labels, predictions and features by modality."""

    labels: Mapping[str, Int[Tensor, " b"]]
    predicted: Mapping[str, Int[Tensor, " b"]]
    features: Mapping[str, Float[Tensor, "b d"]]


def judge_rows(
    model: FusionModel, judges: Mapping[str, Judge], rows: Sequence[Mapping[str, Any]], label: str
) -> Judged:
    """Let the judges look at real rows."""
    labels, predicted, features = {}, {}, {}
    for name, judge in judges.items():
        chosen = _whole(rows, [name, label])
        prepared = Prepared(chosen, {name: model.modalities[name]})
        signal = model.modalities[name].collate([cast(Signal, prepared[i][name]) for i in range(len(chosen))])
        predicted[name], features[name] = judge.judge(signal)
        labels[name] = judge.indices([row[label] for row in chosen])
    return Judged(labels, predicted, features)


def figures(
    model: FusionModel,
    judges: Mapping[str, Judge],
    train: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]],
    settings: EvaluationConfig,
    *,
    seed: int = 0,
) -> list[Figure]:
    """Measure accuracy of the judges, coherence, distances, coverage and memorising on the test rows."""
    real, known = judge_rows(model, judges, test, settings.label), judge_rows(model, judges, train, settings.label)
    accuracy = {m: _share(real.predicted[m], real.labels[m]) for m in judges}
    found = [
        Figure(f"judge of {m}: accuracy", accuracy[m], 1.0, f"on real test data; weights {judges[m].digest}")
        for m in judges
    ]
    found += list(_conditional(model, judges, test, settings.label, accuracy))
    whole = _whole(test, [*judges, settings.label])
    together = judge_rows(model, judges, whole, settings.label).predicted if whole else {}
    found += list(_joint(model, judges, together, settings, seed))
    found += list(_fidelity(model, judges, real, known, seed))
    return found


def _share(a: Tensor, b: Tensor) -> float:
    return float((a == b).double().mean())


def _conditional(
    model: FusionModel,
    judges: Mapping[str, Judge],
    test: Sequence[Mapping[str, Any]],
    label: str,
    accuracy: Mapping[str, float],
) -> Iterator[Figure]:
    for source in [m for m in model.modalities if m in judges]:
        rows = _whole(test, [source, label])
        truth = [row[label] for row in rows]
        others = [m for m in judges if m != source and model.reaches([source], m)]
        signals = model.translated_signals([{source: row[source]} for row in rows], others) if others else {}
        for target, signal in signals.items():
            labels = judges[target].indices(truth)
            share = _share(judges[target].judge(signal)[0], labels)
            interval = wilson(share, len(labels))
            yield Figure(
                f"conditional coherence: {source} -> {target}",
                share,
                accuracy[target],
                f"95 %: {interval.low:.3f} to {interval.high:.3f}",
            )


def _joint(
    model: FusionModel,
    judges: Mapping[str, Judge],
    together: Mapping[str, Int[Tensor, " b"]],
    settings: EvaluationConfig,
    seed: int,
) -> Iterator[Figure]:
    if len(judges) < 2:
        return
    ceiling = joint_coherence(together) if together else float("nan")
    for prior in (TRAINING, *model.graph.fitted_priors()):
        signals = model.generated_signals(settings.samples, prior=prior, seed=seed)
        share = joint_coherence({m: judges[m].judge(signals[m])[0] for m in judges})
        interval = wilson(share, settings.samples)
        yield Figure(
            f"joint coherence: prior {prior}", share, ceiling, f"95 %: {interval.low:.3f} to {interval.high:.3f}"
        )


def _fidelity(
    model: FusionModel, judges: Mapping[str, Judge], real: Judged, known: Judged, seed: int
) -> Iterator[Figure]:
    sets = [
        model.generated_signals(min(len(f) for f in real.features.values()), seed=seed + 1 + i) for i in range(DRAWS)
    ]
    for m, judge in judges.items():
        test, train = real.features[m], known.features[m]
        fakes = [judge.judge(s[m])[1] for s in sets]
        distances = [frechet_with_floor(test, train, fake, seed=seed) for fake in fakes]
        yield Figure(
            f"Fréchet distance: {m}",
            _mean([d.distance for d in distances]),
            _mean([d.floor for d in distances]),
            f"less floor: {_mean([d.distance - d.floor for d in distances]):.2f}",
        )
        covers = [manifold_with_floor(test, train, fake, seed=seed) for fake in fakes]
        yield Figure(
            f"coverage: {m}",
            _mean([c.fake.coverage for c in covers]),
            _mean([c.real.coverage for c in covers]),
            "share of real samples with a generated one near",
        )
        near = [memorising(train, test, fake) for fake in fakes]
        yield Figure(
            f"memorising: {m}",
            _mean([n.share for n in near]),
            0.05,
            "share of samples closer to training data than 95 % of test data are",
        )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
