"""What an ensemble of generators asks of its members, and of the rows and features that it learns weights by."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from fusion_engine import ConfigError, DataError, FusionModel, Table

Rows = Sequence[Mapping[str, Any]]
Look = Callable[[Rows], Any]
"""Rows of raw samples -> features [n d]: of a judge, or of anything that tells samples apart."""


def made(model: FusionModel) -> tuple[str, ...]:
    """Name the modalities that a model has a decoder for."""
    return tuple(m for m in model.modalities if model.graph.wiring.decoder_of(m) is not None)


def conditions(model: FusionModel, whole: Rows) -> list[str]:
    """Name the modalities that condition a decoder and that nothing makes, where all rows have them."""
    return [m for m in model.conditions if all(row.get(m) is not None for row in whole)]


def named(members: Sequence[Any]) -> dict[str, FusionModel]:
    """Return every member by name: ``member0``, ``member1`` ... where it has none.

    Raises:
        ConfigError: there are none, two have one name, one is no model, or they make different modalities.
    """
    pairs = [m if isinstance(m, tuple) else (f"member{i}", m) for i, m in enumerate(members)]
    found: dict[str, FusionModel] = dict(pairs)
    if not pairs or len(found) < len(pairs):
        names = ", ".join(name for name, _ in pairs) or "none"
        raise ConfigError("an ensemble needs members with names of their own", actual=names)
    for name, model in found.items():
        if not isinstance(model, FusionModel):
            where, actual = f"member {name!r}", type(model).__name__
            raise ConfigError("a member is no model", where=where, expected="a trained FusionModel", actual=actual)
    sets = {name: made(model) for name, model in found.items()}
    if len({frozenset(s) for s in sets.values()}) > 1 or not all(sets.values()):
        told = "; ".join(f"{name}: {', '.join(s) or 'none'}" for name, s in sets.items())
        raise ConfigError("members do not make the same modalities", actual=told)
    return found


def weights_of(weights: Sequence[float] | None, m: int) -> Float[np.ndarray, " m"]:
    """Return weights that add up to one, equal ones where none are given.

    Raises:
        ConfigError: there is not one a member, or one is negative or no number, or all are 0.
    """
    found: np.ndarray = np.asarray([1.0] * m if weights is None else weights, dtype=np.float64)
    if len(found) != m or not np.isfinite(found).all() or (found < 0).any() or found.sum() == 0:
        raise ConfigError("weights do not fit", expected=f"{m} numbers of at least 0", actual=str(weights))
    total: np.ndarray = found / found.sum()
    return total


def whole_rows(rows: Any, names: Sequence[str], least: int) -> Rows:
    """Return the rows that have every name.

    Raises:
        DataError: they are fewer than ``least``.
    """
    whole = [row for row in Table(rows) if all(row.get(m) is not None for m in names)]
    if len(whole) < least:
        expected = f"at least {least} rows with {', '.join(names)}"
        raise DataError("there are too few validation rows", expected=expected, actual=str(len(whole)))
    return whole


def matrix(features: Any) -> Float[np.ndarray, "n d"]:
    """Return features as float64.

    Raises:
        DataError: they are no matrix, or hold NaN or Inf.
    """
    x: np.ndarray = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise DataError("features are no finite matrix", expected="[n d]", actual=f"{list(x.shape)}")
    return x


def flat_features(model: FusionModel, whole: Rows) -> Look:
    """Return a function from rows to what the model's modalities prepare, flat: each divided by its total deviation."""
    known = {m: model.modalities[m] for m in made(model)}

    def flat(rows: Rows) -> list[np.ndarray]:
        signals = [m.collate([m.prepare(row[name]) for row in rows]) for name, m in known.items()]
        return [signal.filled().flatten(1).double().numpy() for signal in signals]

    real = flat(whole)
    scales = [float(np.sqrt(x.var(0).sum())) or 1.0 for x in real]
    widths = [x.shape[1] for x in real]

    def look(rows: Rows) -> np.ndarray:
        parts = zip(flat(rows), widths, scales, strict=True)
        return np.concatenate([_to_width(x, width) / scale for x, width, scale in parts], 1)

    return look


def _to_width(x: Float[np.ndarray, "n _"], d: int) -> Float[np.ndarray, "n d"]:
    """Cut, or pad with zeros: generated sequences may be longer or shorter than all real ones."""
    return np.pad(x[:, :d], [(0, 0), (0, max(0, d - x.shape[1]))])
