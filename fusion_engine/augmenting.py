"""More rows for scarce data: generated ones beside the real ones, as balanced as wanted, the best of them kept.

Axes: b batch.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from fusion_engine.components import CategoryModality, Head, Modality
from fusion_engine.data import Table
from fusion_engine.errors import DataError, FusionError
from fusion_engine.graph import Graph
from fusion_engine.requests import (
    check_columns,
    check_conditions,
    check_count,
    check_modality,
    conditions,
    decoded,
    decoder,
    heads,
    reaches,
)
from fusion_engine.run import Run
from fusion_engine.sampling import signals, singled
from fusion_engine.values import Signal

Row = dict[str, Any]
TRIES = 10
"""How many times as many rows are drawn, at most, to find enough of every class."""


@dataclass(frozen=True)
class Augmented:
    """Rows to train on.

    Args:
        rows: the real ones, then the generated ones.
        generated: for each row whether it is a generated one.
    """

    rows: list[Row]
    generated: list[bool]

    def __len__(self) -> int:
        return len(self.rows)


@runtime_checkable
class Source(Protocol):
    """A model, as far as rows are drawn from it."""

    @property
    def graph(self) -> Graph:
        """What is evaluated."""

    @property
    def modalities(self) -> Mapping[str, Modality]:
        """Fitted."""

    def generate(self, n: int, *, given: Any, prior: str | None, seed: int, sample: bool) -> dict[str, list[Any]]:
        """Draw rows from the priors."""

    def runs(self, rows: Any, *, sample: bool = False, seed: int = 0) -> Iterator[Run]:
        """Evaluate rows."""


@dataclass(frozen=True)
class Draw:
    """How generated rows are drawn.

    Args:
        model: trained.
        prior: as in ``generate``.
        seed: of all draws.
        sample: draw samples from the likelihoods, else take their means.
    """

    model: Source
    prior: str | None
    seed: int
    sample: bool

    def rows(self, n: int, given: Mapping[str, Sequence[Any]], attempt: int = 0) -> list[Row]:
        """Draw n whole rows, each with what it was generated from.

        What conditions decoders is handed to them, with z from the prior. Of what is encoded z is inferred, and drawn.
        """
        model, seed = self.model, self.seed + 7919 * attempt
        made = [m for m in decoded(model.graph) if m not in given]
        if given and not any(conditions(model.graph, g, made) for g in given):
            reached = [m for m in made if reaches(model.graph, list(given), m)]
            if not reached:
                check_conditions(model.graph, given)
            runs = model.runs(dict(given), sample=True, seed=seed)
            made_of = signals((singled(run) for run in runs), reached, self.sample)
            columns = {m: model.modalities[m].restore(signal) for m, signal in made_of.items()}
        else:
            columns = model.generate(n, given=given or None, prior=self.prior, seed=seed, sample=self.sample)
        whole = {**given, **columns}
        return [{name: column[i] for name, column in whole.items()} for i in range(n)]


def augmented(
    draw: Draw,
    data: Any,
    n: int,
    *,
    given: Mapping[str, Sequence[Any]] | None,
    balance: str | None,
    keep: float | None,
) -> Augmented:
    """Put n generated rows behind the real ones.

    Raises:
        DataError: n or ``keep`` is out of range, or a class does not come up. FusionError: the model cannot do it.
    """
    table = data if isinstance(data, Table) else Table(data)
    check_count(n, 1, "nothing to generate", "n")
    check_columns(draw.model.modalities, given or {}, n)
    if given and balance:
        raise DataError("rows are either given or balanced", actual="both", fix="leave one out")
    if keep is not None and not 0 < keep <= 1:
        raise DataError("`keep` is a share of the generated rows", expected="more than 0, at most 1", actual=str(keep))
    share = keep or 1.0
    rows = _chosen(draw, n, given or {}, share) if balance is None else _balanced(draw, balance, n, share)
    real = [dict(table[i]) for i in range(len(table))]
    return Augmented([*real, *rows], [False] * len(real) + [True] * len(rows))


def _chosen(draw: Draw, n: int, given: Mapping[str, Sequence[Any]], share: float) -> list[Row]:
    """Draw n rows, or the best n of more: of all, or of those with the same given samples."""
    times = math.ceil(1 / share)
    total = math.ceil(n / share) if not given else n * times
    rows = draw.rows(total, {m: list(column) * times for m, column in given.items()})
    if share == 1:
        return rows
    slots: list[Hashable] = [i % n for i in range(total)] if given else [0] * total
    return _best(rows, slots, scores(draw.model, rows), dict.fromkeys(slots, 1 if given else n))


def _balanced(draw: Draw, name: str, n: int, share: float) -> list[Row]:
    """Draw n rows, as many of one class as of another, in turn."""
    model = draw.model
    check_modality(model.modalities, name)
    modality = model.modalities[name]
    if not isinstance(modality, CategoryModality):
        raise FusionError(f"{name!r} has no classes to balance", expected="a category", actual=type(modality).__name__)
    classes = list(modality.classes)
    quota = Counter(classes[i % len(classes)] for i in range(n))
    others = [m for m in decoded(model.graph) if m != name]
    total = math.ceil(n / share)
    wanted = [classes[i % len(classes)] for i in range(max(total, n))]
    if conditions(model.graph, name, others) or any(reaches(model.graph, [name], m) for m in others):
        rows = draw.rows(len(wanted), {name: wanted})
    else:
        rows = _until(draw, name, Counter(wanted))
    found = [row[name] for row in rows]
    ranks = scores(model, rows) if share < 1 else torch.zeros(len(rows))
    best = _best(rows, found, ranks, quota)
    order: dict[Hashable, list[Row]] = defaultdict(list)
    for row in best:
        order[row[name]].append(row)
    return [order[classes[i % len(classes)]].pop(0) for i in range(n)]


def _until(draw: Draw, name: str, wanted: Mapping[Any, int]) -> list[Row]:
    """Draw until every class of a decoded modality has come up often enough.

    Raises:
        DataError: one has not.
    """
    decoder(draw.model.graph, name)
    rows: list[Row] = []
    missing = dict(wanted)
    for attempt in range(TRIES):
        rows += draw.rows(sum(wanted.values()), {}, attempt)
        found = Counter(row[name] for row in rows)
        missing = {c: k - found[c] for c, k in wanted.items() if found[c] < k}
        if not missing:
            return rows
    raise DataError(
        f"the model hardly generates some classes of {name!r}",
        expected=f"{sum(wanted.values())} rows of {sum(wanted.values()) * TRIES} drawn",
        actual=", ".join(f"{k} of {c!r} missing" for c, k in missing.items()),
        fix="train it longer, or leave `balance` out",
    )


def _best(
    rows: Sequence[Row], groups: Sequence[Hashable], scores: Float[Tensor, " b"], quota: Mapping[Any, int]
) -> list[Row]:
    """Keep the best rows of each group, as many as its quota, in their order."""
    left, kept = dict(quota), list[int]()
    for i in scores.argsort(descending=True, stable=True).tolist():
        if left.get(groups[i], 0) > 0:
            left[groups[i]] -= 1
            kept.append(i)
    return [rows[i] for i in sorted(kept)]


def scores(model: Source, rows: Sequence[Row]) -> Float[Tensor, " b"]:
    """Score rows by the model itself: the more it takes them for real, and their labels for right, the better.

        row = sum_discriminators log sigmoid(D(x)) + sum_labels log p(label | the rest of the row)

    p is that of the head that predicts the label, else of its decoder, with z inferred from the rest.

    Raises:
        FusionError: the model has neither a discriminator nor a label to check.
    """
    wiring = model.graph.wiring
    labels = [m for m, modality in model.modalities.items() if isinstance(modality, CategoryModality)]
    labels = [m for m in labels if all(row.get(m) is not None for row in rows)]
    checked = {m: check for m in labels if (check := _check_of(model, m, rows[0])) is not None}
    if not checked and not wiring.scores:
        raise FusionError(
            "the model has nothing to score rows by",
            expected="a discriminator, or a label that it predicts or decodes from the rest",
            fix="leave `keep` out",
        )
    with torch.no_grad():
        real = torch.cat([_realness(run) for run in model.runs(list(rows))])
        for name, (kind, node) in checked.items():
            rest = [{m: raw for m, raw in row.items() if m != name} for row in rows]
            index = [list(cast(CategoryModality, model.modalities[name]).classes).index(row[name]) for row in rows]
            found, target = list[Tensor](), torch.tensor(index)
            for run in model.runs(rest):
                found.append(_log_p(run, kind, node, target[: len(run.batch)]))
                target = target[len(run.batch) :]
            real = real + torch.cat(found)
    return real


def _check_of(model: Source, name: str, row: Row) -> tuple[str, str] | None:
    """Find what tells a label from the rest of its row: a head, else its decoder."""
    rest = [m for m in model.modalities if m in row and m != name]
    head = next((h for h, out in heads(model.graph).items() if out == name), None)
    if head is not None and not model.graph.wiring.ancestors(head).isdisjoint(rest):
        return "head", head
    made = model.graph.wiring.decoder_of(name)
    if made is not None and rest and reaches(model.graph, rest, name):
        return "decoder", made
    return None


def _realness(run: Run) -> Float[Tensor, " b"]:
    total = torch.zeros(len(run.batch))
    for score in run.wiring.scores:
        real = torch.nn.functional.logsigmoid(run.score(score)).masked_fill(~run.present(score), 0.0)
        total = total + real.cpu()
    return total


def _log_p(run: Run, kind: str, node: str, target: Tensor) -> Float[Tensor, " b"]:
    if kind == "decoder":
        device = next(iter(run.batch.present.values())).device
        found: Tensor = singled(run)[node].log_prob(Signal(target.to(device)))
        return found.cpu()
    probabilities = cast(Head, run.graph[node]).probabilities(cast(Tensor, run[node])).cpu()
    return probabilities.gather(1, target[:, None])[:, 0].clamp(min=1e-12).log()
