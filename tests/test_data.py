"""Tables with gaps, whatever they come in, and the steps that are made of them, however they are shared."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Dataset
from toys import Ragged, Vector

from fusion_engine import Batch, DataError, Table
from fusion_engine.data import Batches, Place, Prepared, collate

MODALITIES = {"a": Vector(size=2), "b": Ragged(length=4)}
NAN = float("nan")
ROWS: list[dict[str, Any]] = [
    {"a": [1.0, 2.0], "b": None},
    {"a": None, "b": [3.0]},
    {"a": [4.0, 5.0], "b": [6.0, 7.0, 8.0]},
]


class Rows(Dataset[dict[str, Any]]):
    """A map-style data set whose rows lack the keys of what is missing."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: raw for name, raw in self.rows[index].items() if raw is not None}


def columns() -> dict[str, list[Any]]:
    return {name: [row[name] for row in ROWS] for name in ("a", "b")}


# Tables


@pytest.mark.parametrize(
    "data", [ROWS, columns(), Rows(ROWS), pd.DataFrame(columns()), Table(ROWS)], ids=lambda d: type(d).__name__
)
def test_a_table_is_the_same_whatever_it_comes_in(data: Any) -> None:
    table = Table(data)
    assert len(table) == 3
    assert set(table.names) == {"a", "b"}
    assert [{n: row.get(n) for n in ("a", "b")} for row in table] == ROWS
    assert [row.get("b") for row in table[1:]] == [[3.0], [6.0, 7.0, 8.0]]
    assert table[-1]["b"] == [6.0, 7.0, 8.0]
    assert list(table.column("a")) == [[1.0, 2.0], [4.0, 5.0]]
    with pytest.raises(IndexError):
        table[3]


@pytest.mark.parametrize(
    "column",
    [
        [1.5, None, 2.5],
        [1.5, NAN, 2.5],
        [1.5, pd.NA, 2.5],
        [1.5, pd.NaT, 2.5],
        np.array([1.5, NAN, 2.5]),
        np.array([1.5, NAN, 2.5], dtype=np.float32),
        np.array([1.5, NAN, 2.5], dtype=np.float16),
        np.array([1.5, None, 2.5], dtype=object),
    ],
    ids=["None", "NaN", "NA", "NaT", "float64", "float32", "float16", "object"],
)
def test_gaps(column: Any) -> None:
    assert [row["a"] for row in Table({"a": column})] == [1.5, None, 2.5]
    assert [row["a"] for row in Table(pd.DataFrame({"a": column}))] == [1.5, None, 2.5]
    assert [row["a"] for row in Table([{"a": cell} for cell in column])] == [1.5, None, 2.5]


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "string", "category"])
def test_a_data_frames_own_types_have_gaps(dtype: str) -> None:
    frame = pd.DataFrame({"a": pd.Series([1, None, 3], dtype="Int64").astype(dtype), "b": ["u", "v", None]})
    rows = list(Table(frame))
    assert [str(row["a"]) for row in rows] == [str(frame["a"][0]), "None", str(frame["a"][2])]
    assert [row["b"] for row in rows] == ["u", "v", None]


@pytest.mark.parametrize("cell", [[float("nan"), 1.0], "", "nan", 0, 0.0, False, np.array([np.nan, 1.0])])
def test_what_is_no_gap(cell: Any) -> None:
    """A sample that holds NaN is a sample: whether it is a good one is for its modality to say."""
    assert Table([{"a": cell}])[0]["a"] is cell


def test_arrays_and_tensors_are_columns_of_samples() -> None:
    table = Table({"a": np.arange(6.0).reshape(3, 2), "b": torch.arange(12.0).reshape(3, 4)})
    assert table[1]["a"].tolist() == [2.0, 3.0]
    assert table[1]["b"].tolist() == [4.0, 5.0, 6.0, 7.0]


def test_tables_that_cannot_be() -> None:
    with pytest.raises(DataError, match=r"(?s)different lengths.*'a': 3, 'b': 2"):
        Table({"a": [1, 2, 3], "b": [1, 2]})
    for nothing in ([], {"a": []}, pd.DataFrame({"a": []})):
        with pytest.raises(DataError, match="no rows"):
            Table(nothing)
    with pytest.raises(DataError, match=r"(?s)a row is a mapping.*row 1.*tuple"):
        Table([{"a": 1}, (1, 2)])[1]


def test_a_missing_column_is_named_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"(?s)no column 'image'.*did you mean 'images'"):
        Table({"images": [1], "text": ["x"]}).check(["image", "text"])
    with pytest.raises(DataError, match="no column 'audio'"):
        Table([{"image": 1}, {"text": "x"}]).check(["image", "text", "audio"])


def test_a_modality_may_come_late() -> None:
    """Rows say what they have one by one, and the first that has audio may be far down."""
    rows = [{"image": 1}] * 300 + [{"audio": 2}]
    Table(rows).check(["image", "audio"])


# Prepared rows


def test_rows_become_signals_and_gaps_stay_gaps() -> None:
    rows = Prepared(Table(ROWS), MODALITIES)
    assert rows[0]["b"] is None
    assert rows[1]["a"] is None
    signal = rows[2]["a"]
    assert signal is not None
    assert signal.data.tolist() == [4.0, 5.0]
    assert rows[2] is rows[2], "each row is prepared once"


def test_a_bad_sample_is_named_with_its_row() -> None:
    rows = Prepared(Table([ROWS[0], {"a": [1.0, 2.0, 3.0]}]), MODALITIES)
    with pytest.raises(DataError, match=r"(?s)row 1, modality 'a'.*\[2\].*\[3\]"):
        rows[1]


def test_collated_rows_say_what_is_present() -> None:
    rows = Prepared(Table(ROWS), MODALITIES)
    batch = collate([rows[i] for i in range(3)], MODALITIES)
    assert batch.present["a"].tolist() == [True, False, True]
    assert batch.signals["a"].data.tolist() == [[1.0, 2.0], [0.0, 0.0], [4.0, 5.0]]
    assert batch.present["b"].tolist() == [False, True, True]
    mask = batch.signals["b"].mask
    assert mask is not None
    assert mask.tolist() == [[False] * 3, [True, False, False], [True] * 3]
    nothing = collate([rows[0], rows[0]], MODALITIES)
    assert nothing.present["b"].tolist() == [False, False]
    assert len(nothing.signals["b"]) == 2


# Steps


def numbered(n: int) -> Prepared:
    """Rows that carry their own number."""
    return Prepared(Table({"a": [[float(i), -float(i)] for i in range(n)]}), {"a": MODALITIES["a"]})


def numbers(batch: Batch) -> list[int]:
    return [int(x) for x in batch.signals["a"].data[:, 0]]


def steps(batches: Batches, *key: object, start: int = 0) -> list[list[list[int]]]:
    """Row numbers: by step, by micro-batch."""
    return [[numbers(batch) for batch in step] for step in batches.epoch(*key, start=start)]


def test_every_row_comes_once_an_epoch() -> None:
    batches = Batches(numbered(24), 6, seed=1)
    assert len(batches) == 4
    seen = [row for step in steps(batches, 0) for micro in step for row in micro]
    assert sorted(seen) == list(range(24))
    assert seen != list(range(24))


def test_the_rows_behind_the_last_whole_step_wait() -> None:
    batches = Batches(numbered(23), 6, seed=1)
    found = [[row for step in steps(batches, 0, epoch) for micro in step for row in micro] for epoch in range(30)]
    assert all(len(set(seen)) == 18 for seen in found)
    assert set().union(*found) == set(range(23)), "others wait each time"


def test_a_step_is_never_larger_than_the_data() -> None:
    assert [len(step[0]) for step in steps(Batches(numbered(5), 128, seed=0), 0)] == [5]


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    rows = numbered(24)
    first = steps(Batches(rows, 6, seed=1), 0, 0)
    assert steps(Batches(rows, 6, seed=1), 0, 0) == first
    assert steps(Batches(rows, 6, seed=2), 0, 0) != first
    assert steps(Batches(rows, 6, seed=1), 0, 1) != first
    assert steps(Batches(rows, 6, seed=1), 1, 0) != first


@pytest.mark.parametrize(("world", "accumulate"), [(1, 2), (2, 1), (2, 3), (3, 2), (5, 1), (1, 7)])
def test_processes_and_micro_batches_share_a_step(world: int, accumulate: int) -> None:
    """Each row of a step is seen once, keeps its place in it, and is where it would be in one process."""
    rows = numbered(30)
    (whole,) = zip(*Batches(rows, 11, seed=3).epoch(0), strict=True)
    shared = [
        list(Batches(rows, 11, seed=3, accumulate=accumulate, place=Place(r, world)).epoch(0)) for r in range(world)
    ]
    for s, step in enumerate(whole):
        parts = [micro for mine in shared for micro in mine[s]]
        assert len(parts) == world * accumulate
        assert all(part.total == 11 and len(part) >= 1 for part in parts)
        places = [(int(place), row) for part in parts for place, row in zip(part.index, numbers(part), strict=True)]
        assert sorted(places) == list(enumerate(numbers(step)))
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_too_few_rows_to_share() -> None:
    with pytest.raises(DataError, match=r"(?s)too few rows.*at least 6 rows"):
        Batches(numbered(30), 5, seed=0, accumulate=3, place=Place(0, 2))


def test_an_epoch_goes_on_where_it_was_left() -> None:
    batches = Batches(numbered(40), 8, seed=4, accumulate=2)
    whole = steps(batches, 1, 2)
    for start in range(6):
        assert steps(batches, 1, 2, start=start) == whole[start:]


# From Python 3.12 on a fork of a process with threads warns; torch has threads, but its workers never enter them.
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")


@forks
def test_workers_give_the_same_batches() -> None:
    rows = numbered(40)
    alone, helped = (Batches(rows, 8, seed=4, accumulate=2, workers=w) for w in (0, 2))
    assert steps(helped, 0, start=1) == steps(alone, 0, start=1)


@forks
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_leave_the_random_state_of_their_user_alone(workers: int) -> None:
    state = torch.get_rng_state()
    batches = Batches(numbered(20), 5, seed=0, workers=workers)
    assert len(list(batches.epoch(0))) == 4
    assert torch.equal(torch.get_rng_state(), state)
