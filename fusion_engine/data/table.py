"""Rows of raw samples, whatever they come in: columns, a data frame, a torch Dataset. A gap is a missing sample."""

import math
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import torch

from fusion_engine.components import Modality
from fusion_engine.errors import DataError, nearest
from fusion_engine.values import Signal

CACHED_ROWS = 100_000


def is_missing(raw: Any) -> bool:
    """Whether a cell is a gap: None, a NaN number, or a data frame's NA."""
    if raw is None or type(raw).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(raw, torch.Tensor):
        return raw.ndim == 0 and bool(raw.isnan())
    return isinstance(raw, Real) and math.isnan(raw)  # NumPy's numbers of any precision are Real


def _check_column(name: str, column: Any) -> None:
    """Refuse what is no column of cells: a number, a generator, one text, two columns of one name."""
    kind = type(column).__name__
    if kind == "DataFrame":
        raise DataError(f"two columns are called {name!r}", fix="rename one")
    if isinstance(column, str | bytes) or not all(
        callable(getattr(type(column), m, None)) for m in ("__len__", "__getitem__")
    ):
        raise DataError(
            f"the column {name!r} is no list of cells", expected="one cell a row", actual=kind, fix="make a list of it"
        )


class Table(Sequence[Mapping[str, Any]]):
    """Rows {modality: raw sample or None}.

    Args:
        data: columns ``{"image": array, "text": list}``, a pandas data frame, a sequence of row mappings, or a
            map-style Dataset whose items are mappings. A key that a row lacks is a gap, and so are None and NaN.

    Raises:
        DataError: it is no such thing, it has no rows, the columns have different lengths, or rows are no mappings.
    """

    def __init__(self, data: Any) -> None:
        self._columns: dict[str, Any] | None = None
        if isinstance(data, Mapping) or type(data).__name__ == "DataFrame":
            self._columns = {str(name): data[name] for name in (data if isinstance(data, Mapping) else data.columns)}
            for name, column in self._columns.items():
                _check_column(name, column)
            lengths = {name: len(column) for name, column in self._columns.items()}
            if len(set(lengths.values())) > 1:
                raise DataError(
                    "the columns have different lengths",
                    actual=str(lengths),
                    fix="one cell a row, None where it is missing",
                )
            self._columns = {n: c.tolist() if type(c).__name__ == "Series" else c for n, c in self._columns.items()}
            self._length = next(iter(lengths.values()), 0)
        else:
            if not callable(getattr(type(data), "__getitem__", None)) or not callable(
                getattr(type(data), "__len__", None)
            ):
                raise DataError(
                    "this is no table",
                    expected="columns, a data frame, a list of rows, or a Dataset with a length",
                    actual=type(data).__name__,
                    fix="make a list of it",
                )
            self._rows = data
            self._length = len(data)
        if not self._length:
            raise DataError("the table has no rows", fix="give at least one row of data")

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        row = {n: c[index] for n, c in self._columns.items()} if self._columns is not None else self._rows[index]
        if not isinstance(row, Mapping):
            raise DataError(
                "a row is a mapping from modality to sample", where=f"row {index}", actual=type(row).__name__
            )
        return {name: None if is_missing(raw) else raw for name, raw in row.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns: those of the first hundred rows where there are only rows."""
        if self._columns is not None:
            return tuple(self._columns)
        return tuple(dict.fromkeys(name for i in range(min(100, len(self))) for name in self[i]))

    def column(self, name: str) -> Iterator[Any]:
        """Raw samples of one modality, gaps left out."""
        for i in range(len(self)):
            raw = self[i].get(name)
            if raw is not None:
                yield raw

    def check(self, modalities: Mapping[str, Modality] | Sequence[str]) -> None:
        """Check that the table has every modality in some row.

        Raises:
            DataError: one never occurs.
        """
        for name in modalities:
            if name not in self.names and next(self.column(name), None) is None:
                raise DataError(
                    f"the data has no column {name!r}",
                    expected=", ".join(modalities),
                    actual=", ".join(self.names),
                    fix=nearest(name, self.names),
                )


class Prepared(torch.utils.data.Dataset[dict[str, Signal | None]]):
    """A table's rows as signals, each prepared once (up to a hundred thousand rows are kept).

    Raises:
        DataError: a sample does not fit its modality; the message names row and modality.
    """

    def __init__(self, table: Sequence[Mapping[str, Any]], modalities: Mapping[str, Modality]) -> None:
        self.table, self.modalities = table, modalities
        self._kept: dict[int, dict[str, Signal | None]] = {}

    def __len__(self) -> int:
        return len(self.table)

    def only(self, names: Sequence[str]) -> "Prepared":
        """Take every other modality out of the rows; what is prepared already is not prepared again."""
        found = Prepared(self.table, {name: self.modalities[name] for name in names})
        found._kept = {i: {name: row[name] for name in names} for i, row in self._kept.items()}
        return found

    def take(self, rows: Sequence[int]) -> "Prepared":
        """Keep the given rows, in this order; what is prepared already is not prepared again."""
        found = Prepared([self.table[i] for i in rows], self.modalities)
        found._kept = {place: self._kept[i] for place, i in enumerate(rows) if i in self._kept}
        return found

    def __getitem__(self, index: int) -> dict[str, Signal | None]:
        if index not in self._kept:
            signals = self._prepare(index)
            if len(self) > CACHED_ROWS:
                return signals
            self._kept[index] = signals
        return self._kept[index]

    def _prepare(self, index: int) -> dict[str, Signal | None]:
        row, signals = self.table[index], dict[str, Signal | None]()
        for name, modality in self.modalities.items():
            raw = row.get(name)
            try:
                signals[name] = None if is_missing(raw) else modality.prepare(raw)
            except DataError as error:
                where = f"row {index}, modality {name!r}" + (f", {error.where}" if error.where else "")
                raise DataError(
                    error.problem, where=where, expected=error.expected, actual=error.actual, fix=error.fix
                ) from error
        return signals
