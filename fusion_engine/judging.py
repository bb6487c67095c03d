"""Judges: classifiers of each modality, trained on real data and frozen. They say what a generated sample shows."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from fusion_engine.components import CategoryModality, Modality
from fusion_engine.config import EvaluationConfig
from fusion_engine.data import Prepared, Table
from fusion_engine.engine import Engine
from fusion_engine.errors import DataError, nearest, one_line
from fusion_engine.evaluation.corruptions import CORRUPTIONS, named
from fusion_engine.model import FusionModel
from fusion_engine.run import Run
from fusion_engine.training import Callback, Trainer
from fusion_engine.values import Batch, Features, Signal

LEAST = 6
"""Rows of a modality that each split needs: coverage looks at a sample's fifth neighbour."""
TARGET = "judged_label"
"""What a judge calls the label: a name that no modality is likely to have."""
CHUNK = 512
"""Rows judged at once."""
WHERE = "config, 'evaluation'"

Labels = Callable[[str, Any], frozenset[Any] | None]
"""``Dataset.labels``: the labels that a raw sample of a modality may stand for; None where a judge has to look."""


class Judge:
    """A frozen classifier of one modality: its classes and its features.

    Args:
        model: trained by the recipe ``classifier`` on one modality.
        modality: its name.
        reads: the labels that a raw sample may stand for, where they can be read off it.
    """

    def __init__(
        self, model: FusionModel, modality: str, reads: Callable[[Any], frozenset[Any] | None] | None = None
    ) -> None:
        self.model, self.modality, self.reads = model, modality, reads
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
        found = [self._judge(signal.map(lambda x, i=i: x[i : i + CHUNK])) for i in range(0, len(signal), CHUNK)]
        return torch.cat([classes for classes, _ in found]), torch.cat([features for _, features in found])

    def _judge(self, signal: Signal) -> tuple[Tensor, Tensor]:
        labels = self.model.modalities[TARGET].example(len(signal))
        batch = Batch.of({self.modality: signal, TARGET: labels}).to(self.model.device)
        run = Run(self.model.graph, batch, sample=False)
        return cast(Tensor, run["classify"]).argmax(-1).cpu(), cast(Features, run["fused"]).pooled.cpu()

    def indices(self, labels: Sequence[Any]) -> Int[Tensor, " b"]:
        """Turn raw labels into class indices."""
        index = {label: i for i, label in enumerate(self.classes)}
        return torch.tensor([index[label] for label in labels])

    def admitted(self, signal: Signal, seen: Int[Tensor, " b"] | None = None) -> Bool[Tensor, "b c"]:
        """Return the labels that each sample may stand for: read off it, else the one that the judge sees, or saw."""
        if self.reads is None:
            return one_hot(self.judge(signal)[0] if seen is None else seen, len(self.classes)).bool()
        return self._sets([self.reads(raw) or frozenset() for raw in self._raws(signal)])

    def truth(self, raws: Sequence[Any], labels: Sequence[Any]) -> Bool[Tensor, "b c"]:
        """Return the labels that real samples may stand for: read off them, else their own."""
        if self.reads is None:
            return self._sets([frozenset([label]) for label in labels])
        return self._sets([self.reads(raw) or frozenset() for raw in raws])

    def _raws(self, signal: Signal) -> list[Any]:
        return self.model.modalities[self.modality].restore(signal.map(Tensor.cpu))

    def _sets(self, sets: Sequence[frozenset[Any]]) -> Bool[Tensor, "b c"]:
        return torch.tensor([[label in each for label in self.classes] for each in sets])


def _check_noise(model: FusionModel, rows: Sequence[Mapping[str, Any]], settings: EvaluationConfig) -> None:
    """Corrupt one sample of each modality that ``evaluation.noise`` names."""
    for name, noise in settings.noise.items():
        where = f"{WHERE}, 'noise', {name!r}"
        if name not in model.modalities:
            raise DataError("the model has no such modality", where=where, fix=nearest(name, model.modalities))
        corrupt = named(noise.corrupt)
        for row in whole_rows(rows, [name])[:1]:
            try:
                corrupt(row[name], noise.levels[-1], np.random.default_rng(0))
            except Exception as error:
                raise DataError(
                    f"the corruption {noise.corrupt!r} does not fit its samples",
                    where=where,
                    actual=one_line(error),
                    fix="name the one of its kind: " + ", ".join(CORRUPTIONS),
                ) from error


def check_label(
    model: FusionModel,
    train: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]],
    settings: EvaluationConfig,
) -> None:
    """Check that there is something to judge, and to judge by, before hours of training.

    Raises:
        DataError: no row has the label, the test split has a class that the training split lacks, there is nothing to
            judge, a modality is to be corrupted that the model does not have or in a way that does not fit it, a
            modality that is to be judged stands beside a label in too few rows, or no test row has what a
            head predicts.
    """
    _check_noise(model, test, settings)
    label, names, heads = settings.label, judged(model, settings), predicting_heads(model)
    if not whole_rows(train, [label]):
        columns = ", ".join(Table(train).names)
        fix = "add the label to the data set's modalities"
        raise DataError(f"the data has no column {label!r} to judge by", where=WHERE, actual=columns, fix=fix)
    if names or isinstance(model.modalities.get(label), CategoryModality):
        _check_classes(train, test, label)
    if not names and not heads:
        raise DataError(
            f"the model makes nothing but {label!r}, so there is nothing to judge",
            where=WHERE,
            expected="a decoder of another modality, or a head that predicts",
            fix="leave 'evaluation' out",
        )
    for head in heads:
        target = str(model.graph.wiring.nodes[head].out)
        if not whole_rows(test, [target]):
            problem = f"no row of the test split has {target!r}, which the head {head!r} predicts"
            raise DataError(problem, where=WHERE, expected="at least one")
    for name in names:
        for split, rows in (("training", train), ("test", test)):
            found = len(whole_rows(rows, [name, label]))
            if found < LEAST:
                few = f"only {found} rows of the {split} split have" if found else f"no row of the {split} split has"
                raise DataError(f"{few} both {name!r} and {label!r}", where=WHERE, expected=f"at least {LEAST}")


def _check_classes(train: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]], label: str) -> None:
    known, asked = ({row[label] for row in whole_rows(rows, [label])} for rows in (train, test))
    if asked - known:
        unseen = ", ".join(sorted(map(str, asked - known)))
        problem = "the test split has classes that no judge has learned"
        raise DataError(problem, where=WHERE, actual=unseen, fix="split the data anew")


class PrepareTest(Callback):
    """Prepare the test rows before the first step: one that does not fit the model is told now, not hours later.

    Args:
        model: that is about to be trained; its modalities have learned from the training rows.
        rows: of the test split.
    """

    def __init__(self, model: FusionModel, rows: Sequence[Mapping[str, Any]]) -> None:
        self.model, self.rows = model, rows

    def on_fit_start(self, trainer: Trainer) -> None:
        """Prepare every row.

        Raises:
            DataError: one does not fit.
        """
        prepared = Prepared(self.rows, self.model.modalities)
        try:
            for i in range(len(prepared)):
                prepared[i]
        except DataError as error:
            raise DataError(
                error.problem,
                where=f"test split, {error.where}",
                expected=error.expected,
                actual=error.actual,
                fix=error.fix,
            ) from error


def whole_rows(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """Keep the rows that have every one of the names."""
    return [row for row in Table(rows) if all(row.get(name) is not None for name in names)] if len(rows) else []


def judged(model: FusionModel, settings: EvaluationConfig) -> list[str]:
    """What is judged: every modality that the model decodes, but not the label itself."""
    return [m for m in model.modalities if model.graph.wiring.decoder_of(m) and m != settings.label]


def predicting_heads(model: FusionModel) -> list[str]:
    """The heads that predict a modality."""
    return [name for name in model.graph.wiring.of_kind("head") if model.graph.wiring.nodes[name].out]


def train_judges(
    engine: Engine,
    model: FusionModel,
    rows: Sequence[Mapping[str, Any]],
    settings: EvaluationConfig,
    labels: Labels | None = None,
) -> dict[str, Judge]:
    """Train one judge for every modality that the model decodes, the label itself left out; none for a classifier.

    Raises:
        KeyboardInterrupt: a judge was interrupted; half a judge judges nothing.
    """
    judges = {}
    for name in judged(model, settings):
        part = model.config.modalities[name]
        chosen: dict[str, Any] = {name: {"use": part.use, "with": part.with_}, TARGET: "modality/tabular.category"}
        options: dict[str, Any] = {"fusion": "concat", "width": 64, "epochs": settings.epochs}
        judge = engine.recipe("classifier", chosen, target=TARGET, name=f"judge of {name}", **options)
        whole = whole_rows(rows, [name, settings.label])
        judge.fit([{name: row[name], TARGET: row[settings.label]} for row in whole])
        if judge.metrics["interrupted"]:
            raise KeyboardInterrupt
        judges[name] = Judge(judge, name, _reader(name, whole[0][name], labels))
    return judges


def kept_judges(
    engine: Engine,
    model: FusionModel,
    rows: Sequence[Mapping[str, Any]],
    settings: EvaluationConfig,
    labels: Labels | None = None,
    *,
    folder: Path,
) -> dict[str, Judge]:
    """Load the judges that an earlier call has left in a folder; else train them and leave them there.

    Raises:
        KeyboardInterrupt: a judge was interrupted; nothing is left.
    """
    names = judged(model, settings)
    if not names:
        return {}
    if folder.exists():
        firsts = {name: whole_rows(rows, [name, settings.label])[0][name] for name in names}
        return {name: Judge(engine.load(folder / name), name, _reader(name, firsts[name], labels)) for name in names}
    judges = train_judges(engine, model, rows, settings, labels)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as beside:
        for name, judge in judges.items():
            judge.model.save(Path(beside) / "whole" / name)
        if not folder.exists():  # another process may have been faster, with the same judges
            (Path(beside) / "whole").replace(folder)
    return judges


def _reader(name: str, raw: Any, labels: Labels | None) -> Callable[[Any], frozenset[Any] | None] | None:
    """Bind the modality's name, if the data set reads labels off its samples."""
    return None if labels is None or labels(name, raw) is None else partial(labels, name)


@dataclass(frozen=True)
class Judged:
    """Real rows of one modality as its judge sees them, n of them.

    labels [n], their own; predicted [n]; features [n d]; admitted [n c], the labels that they may stand for.
    """

    labels: Int[Tensor, " n"]
    predicted: Int[Tensor, " n"]
    features: Float[Tensor, "n d"]
    admitted: Bool[Tensor, "n c"]


def judge_rows(
    model: FusionModel, judges: Mapping[str, Judge], rows: Sequence[Mapping[str, Any]], label: str
) -> dict[str, Judged]:
    """Let each judge look at the real rows that have its modality and a label."""
    return {
        m: _judged_rows(model.modalities[m], judge, whole_rows(rows, [m, label]), label) for m, judge in judges.items()
    }


def _judged_rows(modality: Modality, judge: Judge, rows: Sequence[Mapping[str, Any]], label: str) -> Judged:
    name = judge.modality
    prepared = Prepared(rows, {name: modality})
    signal = modality.collate([cast(Signal, prepared[i][name]) for i in range(len(rows))])
    predicted, features = judge.judge(signal)
    raws, labels = [row[name] for row in rows], [row[label] for row in rows]
    seen = one_hot(predicted, len(judge.classes)).bool() if judge.reads is None else judge.truth(raws, labels)
    return Judged(judge.indices(labels), predicted, features, seen)
