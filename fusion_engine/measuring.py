"""Figures of a trained generative model on its test rows.

Every figure stands beside the one that real data gets in the model's place, and, where guessing scores, beside chance.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from fusion_engine.config import EvaluationConfig
from fusion_engine.data import Prepared
from fusion_engine.evaluation import (
    agreement_of_sets,
    chance_of_sets,
    class_diversity,
    duplicates,
    frechet_with_floor,
    kernel_with_floor,
    manifold_with_floor,
    memorising,
    wilson,
)
from fusion_engine.evaluation.manifold import radius
from fusion_engine.judging import Judge, Judged, judge_rows, whole_rows
from fusion_engine.model import TRAINING, FusionModel
from fusion_engine.requests import draws
from fusion_engine.values import Signal

NEAR = 0.05
"""The quantile of real samples' distances to their nearest neighbour up to which two samples count as the same."""
DRAWS = 20
"""Sets of samples, and of training rows for the floor, that a distance is averaged over: one alone scatters widely."""
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Figure:
    """One measured number beside what real data gets.

    Args:
        name: of what.
        value: of the model.
        real: of real data: the ceiling, or the floor of a distance; None where no test row tells it.
        chance: what the same samples score beside rows that they were not made for: a vague sample fits many.
        note: how to read it.
    """

    name: str
    value: float
    real: float | None
    chance: float | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Give plain containers, for JSON and CSV."""
        return asdict(self)


def figures(
    model: FusionModel,
    judges: Mapping[str, Judge],
    train: Rows,
    test: Rows,
    settings: EvaluationConfig,
    *,
    seed: int = 0,
) -> list[Figure]:
    """Measure accuracy of the judges, coherence, distances, coverage, variety and memorising on the test rows.

    What conditions generation without being generated is taken from the test rows.
    """
    real, known = (judge_rows(model, judges, rows, settings.label) for rows in (test, train))
    asked = Asked.of(model, test, settings.label)
    found = list(_judges(judges, real))
    found += _conditional(model, judges, test, real, settings.label)
    whole = whole_rows(test, [*judges, settings.label])
    together = real if len(whole) == len(test) else judge_rows(model, judges, whole, settings.label) if whole else {}
    if draws(model.graph, model.conditions):
        found += _joint(model, judges, together, settings, asked, seed)
        found += _fidelity(model, judges, real, known, asked, seed)
    return found


@dataclass(frozen=True)
class Asked:
    """What generation is conditioned on: rows that have every condition and a label, where there are conditions."""

    names: tuple[str, ...]
    rows: Rows
    labels: Sequence[Any]

    @classmethod
    def of(cls, model: FusionModel, rows: Rows, label: str) -> "Asked":
        """Take the rows that tell a model's conditions, and their labels."""
        whole = whole_rows(rows, [*model.conditions, label]) if model.conditions else []
        return cls(model.conditions, whole, [row[label] for row in whole])

    def choice(self, n: int, seed: int) -> list[int]:
        """Choose n of the rows, all of them as often as each other, in a seeded order; none without conditions."""
        if not len(self.rows):
            return []
        generator = torch.Generator().manual_seed(seed)
        turns = [torch.randperm(len(self.rows), generator=generator) for _ in range(-(-n // len(self.rows)))]
        chosen: list[int] = torch.cat(turns)[:n].tolist()
        return chosen

    def signals(self, model: FusionModel, n: int, seed: int, prior: str | None = None) -> dict[str, Signal]:
        """Generate n rows under the conditions of ``choice(n, seed)``."""
        chosen = self.choice(n, seed)
        given = {name: [self.rows[i][name] for i in chosen] for name in self.names} if chosen else None
        return model.generated_signals(n, given=given, prior=prior, seed=seed)


def _judges(judges: Mapping[str, Judge], real: Mapping[str, Judged]) -> Iterator[Figure]:
    for m, judge in judges.items():
        share = float((real[m].predicted == real[m].labels).double().mean())
        best = float((1 / real[m].admitted.sum(1).clamp(min=1)).mean())  # an ambiguous sample can only be guessed
        yield Figure(f"judge of {m}: accuracy", share, best, note=f"on real test data; weights {judge.digest}")


def interval(share: float, n: int) -> str:
    """Write the 95 % interval of a share of n rows."""
    interval = wilson(share, n)
    return f"95 %: {interval.low:.3f} to {interval.high:.3f}"


@dataclass(frozen=True)
class _Test:
    """The test rows that have a label, and what each modality of each may stand for: [n c], nothing where it is absent.

    ``truth`` is by the row's label and what can be read off, ``seen`` by the judge in its place.
    """

    rows: Prepared
    truth: Mapping[str, Bool[Tensor, "n c"]]
    seen: Mapping[str, Bool[Tensor, "n c"]]

    def having(self, names: Sequence[str]) -> Int[Tensor, " r"]:
        """The rows that have every one of the names."""
        have = [i for i, row in enumerate(self.rows.table) if all(row.get(m) is not None for m in names)]
        return torch.tensor(have).long()


def _test(model: FusionModel, judges: Mapping[str, Judge], test: Rows, real: Mapping[str, Judged], label: str) -> _Test:
    rows = whole_rows(test, [label])
    truth, seen = {}, {}
    for m, judge in judges.items():
        have = torch.tensor([row.get(m) is not None for row in rows])
        raws = [(row[m], row[label]) for row in rows if row.get(m) is not None]
        nothing = torch.zeros(len(rows), len(judge.classes), dtype=torch.bool)
        truth[m] = nothing.index_put((have,), judge.truth(*zip(*raws, strict=True)))
        seen[m] = nothing.index_put((have,), real[m].admitted)
    prepared = Prepared(rows, {m: model.modalities[m] for m in judges})
    for i in range(len(prepared)):
        prepared[i]
    return _Test(prepared, truth, seen)


def _conditional(
    model: FusionModel, judges: Mapping[str, Judge], test: Rows, real: Mapping[str, Judged], label: str
) -> Iterator[Figure]:
    """Translate from every subset of the modalities to every other one; averages over subsets of a size come first."""
    sources = [m for m in model.modalities if m in judges]
    known = _test(model, judges, test, real, label)
    ambiguous = {m for m in sources if bool((known.truth[m].sum(1) > 1).any())}
    found: dict[tuple[str, ...], list[Figure]] = {}
    for size in range(1, len(sources)):
        for subset in combinations(sources, size):
            found[subset] = list(_from(model, judges, subset, known))
    never = ", ".join(sorted(ambiguous))
    for size in range(1, len(sources)):
        chosen = {s: figures for s, figures in found.items() if len(s) == size}
        yield from _mean_figure(f"conditional coherence: mean from {size}", chosen)
        clear = {s: figures for s, figures in chosen.items() if ambiguous.isdisjoint(s)}
        if ambiguous:
            yield from _mean_figure(f"conditional coherence: mean from {size}, {never} never a source", clear)
            neither = {s: [f for f in each if _target(f) not in ambiguous] for s, each in clear.items()}
            yield from _mean_figure(f"conditional coherence: mean from {size}, {never} left out", neither)
    yield from (figure for each in found.values() for figure in each)


def _from(model: FusionModel, judges: Mapping[str, Judge], subset: tuple[str, ...], known: _Test) -> Iterator[Figure]:
    rows = known.having(subset)
    targets = [m for m in judges if m not in subset and model.reaches(subset, m)]
    if not len(rows) or not targets:
        return
    truth = torch.stack([known.truth[m] for m in subset]).all(0)
    given = known.rows.take(rows.tolist()).only(subset)
    for target, signal in model.translated_signals(given, targets).items():
        sets = truth[rows], judges[target].admitted(signal)
        share, chance = agreement_of_sets(*sets), chance_of_sets(*sets)
        beside = known.having([*subset, target])
        ceiling = agreement_of_sets(truth[beside], known.seen[target][beside]) if len(beside) else None
        name = f"conditional coherence: {'+'.join(subset)} -> {target}"
        yield Figure(name, share, ceiling, chance, interval(share, len(rows)))


def _target(figure: Figure) -> str:
    return figure.name.rpartition(" -> ")[2]


def _mean_figure(name: str, found: Mapping[tuple[str, ...], Sequence[Figure]]) -> Iterator[Figure]:
    whole = [figure for figures in found.values() for figure in figures]
    if whole:
        value, chance = _mean([f.value for f in whole]), _mean([f.chance for f in whole if f.chance is not None])
        known = [f.real for f in whole if f.real is not None]
        real = _mean(known) if len(known) == len(whole) else None
        yield Figure(name, value, real, chance, f"over {len(whole)} pairs of sources and target")


def _joint(
    model: FusionModel,
    judges: Mapping[str, Judge],
    together: Mapping[str, Judged],
    settings: EvaluationConfig,
    asked: Asked,
    seed: int,
) -> Iterator[Figure]:
    if len(judges) < 2:
        return
    real = [judged.admitted for judged in together.values()]
    ceiling = agreement_of_sets(*real) if real else None
    for prior in (TRAINING, *model.graph.fitted_priors()):
        signals = asked.signals(model, settings.samples, seed, prior)
        sets = [judges[m].admitted(signals[m]) for m in judges]
        share, chance = agreement_of_sets(*sets), chance_of_sets(*sets)
        note = interval(share, settings.samples)
        yield Figure(f"joint coherence: prior {prior}", share, ceiling, chance, note)


def _fidelity(
    model: FusionModel,
    judges: Mapping[str, Judge],
    real: Mapping[str, Judged],
    known: Mapping[str, Judged],
    asked: Asked,
    seed: int,
) -> Iterator[Figure]:
    n = min(len(judged.features) for judged in real.values())
    seeds = range(seed + 1, seed + 1 + DRAWS)
    sets = [asked.signals(model, n, i) for i in seeds]
    chosen = [i for s in seeds for i in asked.choice(n, s)]
    for m, judge in judges.items():
        seen, fakes = zip(*(judge.judge(s[m]) for s in sets), strict=True)
        yield from _distances(m, real[m].features, known[m].features, fakes, seed)
        admitted = torch.cat([judge.admitted(s[m], classes) for s, classes in zip(sets, seen, strict=True)])
        if judge.reads is not None:
            yield from _readable(m, real[m].admitted, admitted)
        else:
            yield from _variety(m, real[m].predicted, torch.cat(seen), len(judge.classes))
        if chosen:
            wanted = judge.indices(asked.labels)
            yield _obeyed(f"{'+'.join(asked.names)} -> {m}", wanted[torch.tensor(chosen)], admitted, real[m])


def _obeyed(name: str, wanted: Int[Tensor, " n"], seen: Bool[Tensor, "n c"], real: Judged) -> Figure:
    """Measure how often a sample shows the label of the row that its condition was taken from."""
    rows, known = torch.arange(len(wanted)), torch.arange(len(real.labels))
    share, ceiling = (float(x.double().mean()) for x in (seen[rows, wanted], real.admitted[known, real.labels]))
    asked = torch.zeros_like(seen).index_put((rows, wanted), torch.tensor(True))
    chance = chance_of_sets(asked, seen)
    return Figure(f"condition obeyed: {name}", share, ceiling, chance, interval(share, len(wanted)))


def _variety(m: str, real: Int[Tensor, " n"], fake: Int[Tensor, " k"], classes: int) -> Iterator[Figure]:
    """Measure whether samples show every class, and how evenly."""
    found, best = class_diversity(fake, classes), class_diversity(real, classes)
    note = f"of {classes}, with at least a third of a fair share of the samples"
    yield Figure(f"classes shown: {m}", float(found.hit), float(best.hit), note=note)
    note = f"in nats; {math.log(classes):.3f} where all are as frequent"
    yield Figure(f"entropy of classes: {m}", found.entropy, best.entropy, note=note)


def _readable(m: str, real: Bool[Tensor, "n c"], fake: Bool[Tensor, "k c"]) -> Iterator[Figure]:
    """Measure samples whose labels are read off: whether there are any, and how vague the sample is."""
    share = float(fake.any(1).double().mean())
    yield Figure(f"well formed: {m}", share, 1.0, note="share of samples that stand for any label")
    labels, known = (float(x[x.any(1)].sum(1).double().mean()) if x.any() else 0.0 for x in (fake, real))
    yield Figure(f"labels a sample: {m}", labels, known, note="mean number that a well-formed sample stands for")


def _distances(m: str, test: Tensor, train: Tensor, fakes: Sequence[Tensor], seed: int) -> Iterator[Figure]:
    distances = [frechet_with_floor(test, train, fake, seed=seed + i) for i, fake in enumerate(fakes)]
    distance, floor = _mean([d.distance for d in distances]), _mean([d.floor for d in distances])
    yield Figure(f"Fréchet distance: {m}", distance, floor, note=f"less floor: {distance - floor:.2f}")
    covers = [manifold_with_floor(test, train, fake, seed=seed + i) for i, fake in enumerate(fakes)]
    note = "share of real samples with a generated one near"
    cover, best = _mean([c.fake.coverage for c in covers]), _mean([c.real.coverage for c in covers])
    yield Figure(f"coverage: {m}", cover, best, note=note)
    share = memorising(train, test, torch.cat(list(fakes))).share  # the sets are of one size
    note = "share of samples closer to training data than 95 % of test data are"
    yield Figure(f"memorising: {m}", share, memorising(train, test, test).share, note=note)
    kernels = [kernel_with_floor(test, train, fake, seed=seed + i) for i, fake in enumerate(fakes)]
    distance, floor = _mean([d.distance for d in kernels]), _mean([d.floor for d in kernels])
    yield Figure(f"KID: {m}", distance, floor, note="kernel distance; a perfect generator scatters around 0")
    yield _repeating(m, test, fakes, seed)


def _repeating(m: str, test: Tensor, fakes: Sequence[Tensor], seed: int) -> Figure:
    """Measure how often a random quarter of the samples holds two that are nearly the same."""
    threshold = float(radius(test.double(), 1).quantile(NEAR))
    size = max(2, min(len(test), *map(len, fakes)) // 4)
    repeating = [duplicates(x, threshold=threshold, size=size, seed=seed).batches for x in (test, *fakes)]
    note = f"share of batches of {size} with two samples as near as {NEAR:.0%} of real ones have their nearest"
    return Figure(f"duplicates: {m}", _mean(repeating[1:]), repeating[0], note=note)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
