"""How real a trained model's discriminator takes samples to be."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from fusion_engine.components import Head
from fusion_engine.data import Prepared, Table, collate
from fusion_engine.errors import DataError, FusionError, nearest
from fusion_engine.model import CHUNK, FusionModel
from fusion_engine.run import Run
from fusion_engine.values import Batch, Signal


def score_heads(model: FusionModel) -> tuple[str, ...]:
    """Name the heads that score how real their input is, in the order of the config; a VAE has none."""
    return tuple(n for n in model.graph.wiring.of_kind("head") if cast(Head, model.graph[n]).realness)


@torch.no_grad()
def realness(model: FusionModel, data: Any, score: str | None = None) -> Float[Tensor, " b"]:
    """Score each row by a discriminator of the model, raw: higher is more real; in eval mode, without gradients.

    Of the logistic games (non-saturating, minimax, relativistic pairing) the best discriminator's score is
    log p_data(x) / p_model(x), up to a constant where it is relativistic. Of others it only ranks.

    Rows may be real or generated. What stands above the score is read, conditions too, and the rest is ignored. A
    latent above it (of ALI, BiGAN, a code discriminator) is the mean of what the model infers from the row. A row
    that has nothing of what is read gets NaN; one that lacks a part is scored by the others, as in training.

    Args:
        model: with a head that scores realness.
        data: a table of raw samples, prepared rows, or columns of which some are signals, such as
            ``{**model.generated_signals(64, given=given), **given}``.
        score: the head; by default the only one.

    Raises:
        FusionError: the model has no such head, or several and none is named.
        DataError: no column is read by it, or columns differ in length.
    """
    name = _head(model, score)
    read = model.graph.wiring.ancestors(name) & set(model.modalities)
    found = []
    for run in _runs(model, data, frozenset(read)):
        absent = ~run.present(name)
        found.append(run.score(name).double().masked_fill(absent, torch.nan))
    return torch.cat(found)


def _head(model: FusionModel, score: str | None) -> str:
    known = score_heads(model)
    if not known:
        raise FusionError("the model has no head that scores realness", fix="train one with a discriminator, a GAN")
    if score is None and len(known) > 1:
        raise FusionError("the model has several score heads", expected="score= one of them", actual=", ".join(known))
    if score is not None and score not in known:
        raise FusionError(f"the model has no score head {score!r}", fix=nearest(score, known))
    return score or known[0]


def _runs(model: FusionModel, data: Any, read: frozenset[str]) -> Iterator[Run]:
    if isinstance(data, Mapping) and any(isinstance(column, Signal) for column in data.values()):
        _check_read(read, data)
        model.graph.eval()
        for batch in _batches(model, data):
            yield Run(model.graph, batch.to(model.device), sample=False)
        return
    rows = data if isinstance(data, Prepared) else Table(data)
    _check_read(read, dict.fromkeys(rows.modalities if isinstance(rows, Prepared) else rows.names))
    yield from model.runs(rows)


def _check_read(read: frozenset[str], columns: Mapping[str, Any]) -> None:
    if read.isdisjoint(columns):
        raise DataError(
            "the score reads none of the columns", expected=", ".join(sorted(read)), actual=", ".join(columns) or "none"
        )


def _batches(model: FusionModel, columns: Mapping[str, Any]) -> Iterator[Batch]:
    """Cut columns, signals or raw, into batches."""
    model.check_names(columns, n := len(next(iter(columns.values()))))
    signals = {m: x for m, x in columns.items() if isinstance(x, Signal)}
    raws = {m: x for m, x in columns.items() if m not in signals}
    rows = Prepared([{m: x[i] for m, x in raws.items()} for i in range(n)], model.modalities)
    for start in range(0, n, CHUNK):
        index = range(start, min(start + CHUNK, n))
        batch = collate([rows[i] for i in index], model.modalities)
        part = {m: s.map(lambda x, i=index: x[i.start : i.stop].cpu()) for m, s in signals.items()}
        present = {m: torch.ones(len(index), dtype=torch.bool) for m in part}
        yield replace(batch, signals={**batch.signals, **part}, present={**batch.present, **present})
