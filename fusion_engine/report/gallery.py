"""What a model makes of a few rows: real, reconstructed, generated, translated and interpolated samples, as media."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any, cast

import torch
from torch import Tensor

from fusion_engine.data import Prepared, Table
from fusion_engine.model import FusionModel
from fusion_engine.requests import draws
from fusion_engine.values import Media, Signal

Row = Mapping[str, Any]
Line = list[Media | None]
"""One sample a row; None where the row has none."""
LOOKED_AT = 2000
"""Rows looked at, at most, to find some with everything present."""


def choose(model: FusionModel, rows: Sequence[Row], n: int) -> list[Row]:
    """Choose up to n rows that have everything, spread evenly; where those are too few, the fullest ones."""
    if not len(rows):
        return []
    table, stride = Table(rows), max(1, len(rows) // n)
    spread = (i for start in range(stride) for i in range(start, len(rows), stride))
    seen: list[tuple[int, int, Row]] = []
    for i in islice(spread, LOOKED_AT):
        row = {m: table[i].get(m) for m in model.modalities}
        seen.append((sum(raw is None for raw in row.values()), i, row))
        if sum(gaps == 0 for gaps, _, _ in seen) == n:
            break
    fullest = sorted(seen, key=lambda found: found[0])[:n]
    return [row for _, _, row in sorted(fullest, key=lambda found: found[1])]


def decoded(model: FusionModel) -> list[str]:
    """Name the modalities that the model makes."""
    return [m for m in model.modalities if model.graph.wiring.decoder_of(m)]


def render(model: FusionModel, signal: Signal, name: str) -> Line:
    """Draw each row."""
    return list(model.modalities[name].render(signal.map(Tensor.cpu)))


def real(model: FusionModel, rows: Sequence[Row], name: str) -> Line:
    """Draw the real samples of a modality; a gap is None."""
    have = [i for i, row in enumerate(rows) if row.get(name) is not None]
    if not have:
        return [None] * len(rows)
    modality = model.modalities[name]
    prepared = Prepared([rows[i] for i in have], {name: modality})
    signal = modality.collate([cast(Signal, prepared[i][name]) for i in range(len(have))])
    return _spread(render(model, signal, name), have, len(rows))


def _spread(line: Line, places: Sequence[int], n: int) -> Line:
    found: Line = [None] * n
    for place, media in zip(places, line, strict=True):
        found[place] = media
    return found


def generated(model: FusionModel, rows: Sequence[Row], n: int, *, seed: int = 0) -> dict[str, Signal]:
    """Generate n samples of all that can be drawn; what conditions them is taken from the rows in turn."""
    if not draws(model.graph, model.conditions):
        return {}
    whole = [row for row in rows if all(row.get(m) is not None for m in model.conditions)]
    if not model.conditions or not whole:
        return model.generated_signals(n, seed=seed)
    given = {m: [whole[i % len(whole)][m] for i in range(n)] for m in model.conditions}
    return model.generated_signals(n, given=given, seed=seed)


def translated(model: FusionModel, rows: Sequence[Row], given: Sequence[str], to: str) -> Line | None:
    """Draw what the model makes of the rows' given modalities; None where nothing of them reaches the decoder."""
    have = [i for i, row in enumerate(rows) if any(row.get(m) is not None for m in given)]
    if not have or not model.reaches(given, to):
        return None
    parts = [{m: rows[i].get(m) for m in given} for i in have]
    return _spread(render(model, model.translated_signals(parts, [to])[to], to), have, len(rows))


def predicted(model: FusionModel, rows: Sequence[Row], name: str) -> Line | None:
    """Write down what a head predicts from everything else; None where no head predicts this modality."""
    wiring = model.graph.wiring
    head = next((h for h in wiring.of_kind("head") if wiring.nodes[h].out == name), None)
    if head is None:
        return None
    others = [{m: row.get(m) for m in model.modalities if m != name} for row in rows]
    return real(model, [{name: answer} for answer in model.predict(others, head)], name)


@dataclass(frozen=True)
class Samples:
    """Lines of one modality; None where the model makes no such line."""

    name: str
    real: Line
    reconstructed: Line | None
    predicted: Line | None
    generated: Line | None


def samples(model: FusionModel, rows: Sequence[Row], n: int, *, seed: int = 0) -> list[Samples]:
    """Draw real, reconstructed or predicted, and generated samples of every modality; modalities without any left out.

    Args:
        model: trained.
        rows: real rows.
        n: samples to generate.
        seed: of the generated ones.
    """
    made = generated(model, rows, n, seed=seed) if decoded(model) else {}
    found = []
    for name in model.modalities:
        line = real(model, rows, name)
        again = translated(model, rows, list(model.modalities), name) if decoded(model) else None
        said = predicted(model, rows, name) if rows else None
        new = render(model, made[name], name) if name in made else None
        if new or any(line):
            found.append(Samples(name, line, again, said, new))
    return found


@dataclass(frozen=True)
class Translations:
    """One source: the given samples, and what each target makes of them."""

    source: str
    given: Line
    into: Mapping[str, Line | None]


def translations(model: FusionModel, rows: Sequence[Row]) -> list[Translations]:
    """Translate from every modality that reaches a decoder into every one that it reaches."""
    targets, found = decoded(model), []
    for source in model.modalities:
        into = {to: translated(model, rows, [source], to) for to in targets}
        if any(into.values()):
            found.append(Translations(source, real(model, rows, source), into))
    return found


@dataclass(frozen=True)
class Way:
    """The way from one row to another in one modality: both ends as they are, and the decoded steps between."""

    name: str
    first: Media | None
    steps: Line
    last: Media | None


def interpolation(model: FusionModel, rows: Sequence[Row], steps: int) -> list[Way]:
    """Decode the way between the two rows whose latents are the farthest apart, in every modality."""
    names = [m for m in decoded(model) if model.reaches(list(model.modalities), m)]
    if len(rows) < 2 or not names or not model.graph.wiring.of_kind("posterior"):
        return []
    ends = _farthest(model, rows)
    signals = model.interpolated_signals(ends[0], ends[1], names, steps=steps)
    shown = {m: real(model, ends, m) for m in names}
    return [Way(m, shown[m][0], render(model, signals[m], m), shown[m][1]) for m in names]


def _farthest(model: FusionModel, rows: Sequence[Row]) -> tuple[Row, Row]:
    z = model.latents(rows)
    distance = torch.cdist(z, z)
    i, j = max(combinations(range(len(rows)), 2), key=lambda pair: float(distance[pair]))
    return rows[i], rows[j]
