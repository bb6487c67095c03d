"""The abstract loss: a small named term that reads a run, one player at a time."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import cast

from torch import nn

from fusion_engine.config import PLAYERS, Player
from fusion_engine.errors import BuildError, ConfigError, nearest
from fusion_engine.graph import Graph
from fusion_engine.run import Clock, Run
from fusion_engine.values import Rows, Term
from fusion_engine.wiring import match

GENERATOR: frozenset[Player] = frozenset({"generator"})
BOTH: frozenset[Player] = frozenset(PLAYERS)


class Loss(nn.Module, ABC):
    """One named term.

    A subclass takes the graph, positionally, checks in its constructor that it fits (raising BuildError in words), and
    returns a ``Term`` for each of its players. The rows that count are known before anything is computed: ranks and
    accumulation steps agree on the divisor first, so that their sum is the exact mean.

    Args:
        graph: what it will read.
        players: who minimises it; a turn calls only its own player's.
        weight: multiplies it in the sum that is minimised; what is logged is the term without it.
    """

    relative_to: str | None = None
    """The loss whose pull its weight is measured in, as its config says."""
    draws_fitted: bool = False
    """True where it draws from priors fitted to posteriors: they are fitted when a stage with it begins."""

    def __init__(self, graph: Graph, players: Iterable[Player], weight: float = 1.0) -> None:
        super().__init__()
        self.players = frozenset(players)
        self.weight = weight

    def rows(self, run: Run, player: Player) -> Rows:
        """Bool [b]: the rows that count. It may read presence and nothing else; by default rows with any modality."""
        return run.anything()

    def scale(self, clock: Clock) -> float:
        """Return the weight at this moment; a schedule overrides it."""
        return self.weight

    @abstractmethod
    def forward(self, run: Run, player: Player) -> Term:
        """Return the sum over the rows that count, and their number."""

    def check_rows(self, rows: int) -> None:
        """Refuse micro-batches of so many rows where the term could never count; by default any number will do.

        Raises:
            ConfigError: how many it needs, and what to change.
        """

    def observe(self, player: Player, statistics: Mapping[str, float]) -> None:
        """Take note, after a turn, of its statistics' means over the whole step; by default nothing is done.

        What is kept between steps stands in buffers, so that a resumed run goes on with it.
        """


def nodes_of(graph: Graph, kind: str, globs: Iterable[str], where: str) -> tuple[str, ...]:
    """Choose nodes of one kind by globs.

    Raises:
        BuildError: the graph has none of that kind.
        ConfigError: a glob matches nothing.
    """
    names = graph.wiring.of_kind(kind)
    if not names:
        raise BuildError(f"there is no {kind} for this loss", where=where, fix=f"add a {kind}, or remove the loss")
    chosen = match(globs, names, where, kind)
    return tuple(n for n in names if n in chosen)


def check_modalities(graph: Graph, names: Iterable[str], where: str) -> None:
    """Check that every name is a modality of the graph.

    Raises:
        BuildError: one is not.
    """
    for name in names:
        if name not in graph.modalities:
            raise BuildError(f"there is no modality {name!r}", where=where, fix=nearest(name, graph.modalities))


def check_rows(graph: Graph, names: Iterable[str], size: int, shares: int, data: int | None = None) -> None:
    """Check that some losses can count on the micro-batches of a step.

    Args:
        graph: whose losses.
        names: which.
        size: rows of a step.
        shares: micro-batches that share them, over all processes.
        data: rows of the data, where they are known.

    Raises:
        ConfigError: one never could.
    """
    rows = size // shares
    told = f"{rows} rows: {size} a step" + (f", shared by {shares} micro-batches" if shares > 1 else "")
    told += "" if data is None else f", of {data} rows of data"
    larger = (
        "train on more rows" if size == data else "lower train.accumulate" if shares > 1 else "raise train.batch_size"
    )
    for name in names:
        try:
            cast(Loss, graph.loss(name)).check_rows(rows)
        except ConfigError as error:
            where = f"loss {name!r}" + (f", {error.where}" if error.where else "")
            fix = f"{larger}, or {error.fix}" if error.fix else larger
            raise ConfigError(error.problem, where=where, expected=error.expected, actual=told, fix=fix) from error
