"""Which rows make a step, and which of them a process sees: the same numbers however a step is shared."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset

from fusion_engine.components import Modality
from fusion_engine.data.table import Prepared
from fusion_engine.errors import DataError
from fusion_engine.noise import Noise
from fusion_engine.values import Batch, Signal


def collate(
    rows: Sequence[Mapping[str, Signal | None]],
    modalities: Mapping[str, Modality],
    index: Sequence[int] | None = None,
    total: int | None = None,
) -> Batch:
    """Stack rows; a missing sample is a blank that is False in ``present``."""
    signals, present = {}, {}
    for name, modality in modalities.items():
        column = [row.get(name) for row in rows]
        blank = next((s for s in column if s is not None), None)
        stand_in = modality.blank() if blank is None else blank.map(torch.zeros_like)
        signals[name] = modality.collate([stand_in if s is None else s for s in column])
        present[name] = torch.tensor([s is not None for s in column])
    place = torch.arange(len(rows)) if index is None else torch.tensor(list(index))
    return Batch(signals, present, place, total or len(rows))


@dataclass(frozen=True)
class Place:
    """One process among several that share each step."""

    rank: int = 0
    world: int = 1


class _Chosen(Dataset[tuple[int, dict[str, Signal | None]]]):
    def __init__(self, rows: Prepared) -> None:
        self.rows = rows

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, dict[str, Signal | None]]:
        place, row = key
        return place, self.rows[row]


def _workers_start() -> str | None:
    """How workers start: as forks where that is safe, for they then know the plugins that came as single files."""
    return "fork" if sys.platform == "linux" else None


class Batches:
    """The steps of an epoch, each a list of this process's micro-batches.

    A step holds ``batch_size`` rows, shuffled by (seed, epoch); processes and accumulation steps share them, so that
    the step is the same whatever their number. The rows behind the last whole step wait for the next epoch.

    Raises:
        DataError: a step has fewer rows than processes times accumulation steps.
    """

    def __init__(
        self,
        rows: Prepared,
        batch_size: int,
        *,
        seed: int,
        accumulate: int = 1,
        place: Place | None = None,
        workers: int = 0,
    ) -> None:
        self.rows, self.size = rows, min(batch_size, len(rows))
        self.seed, self.accumulate, self.place, self.workers = seed, accumulate, place or Place(), workers
        if self.size < self.place.world * accumulate:
            raise DataError(
                "a step has too few rows to share",
                expected=f"at least {self.place.world * accumulate} rows",
                actual=str(self.size),
                fix="lower 'accumulate' or the number of processes",
            )

    def __len__(self) -> int:
        return len(self.rows) // self.size

    def epoch(self, *key: object, start: int = 0) -> Iterator[list[Batch]]:
        """Yield the steps of one epoch from ``start`` on."""
        generator = torch.Generator().manual_seed(Noise.of(1, self.seed).at("order", *key).key)
        order = torch.randperm(len(self.rows), generator=generator)
        chosen = [
            self._share(order[s * self.size : (s + 1) * self.size], j)
            for s in range(start, len(self))
            for j in range(self.accumulate)
        ]
        loader = DataLoader(
            _Chosen(self.rows),
            batch_sampler=chosen,
            collate_fn=self._collate,
            num_workers=self.workers,
            generator=generator,
            multiprocessing_context=_workers_start() if self.workers else None,
        )
        step: list[Batch] = []
        for batch in loader:
            step.append(batch)
            if len(step) == self.accumulate:
                yield step
                step = []

    def _share(self, rows: torch.Tensor, micro: int) -> list[tuple[int, int]]:
        parts = torch.arange(self.size).tensor_split(self.place.world * self.accumulate)
        part = parts[micro * self.place.world + self.place.rank]
        return [(int(p), int(rows[p])) for p in part]

    def _collate(self, items: list[tuple[int, dict[str, Signal | None]]]) -> Batch:
        return collate([row for _, row in items], self.rows.modalities, [place for place, _ in items], self.size)
