"""What losses that align the pooled vectors of several nodes share: the pairs of nodes, and the rows that have both.

Axes: b batch, r rows that have both of a pair, d width.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import combinations
from typing import ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from fusion_engine import (
    BuildError,
    Encoder,
    Fusion,
    Graph,
    Head,
    Loss,
    Player,
    PosteriorNetwork,
    Rows,
    Run,
    Term,
    match,
)

KINDS = ("encoder", "fusion", "posterior", "head")
"""Kinds of nodes that have one vector a row."""


class Alignment(Loss, ABC):
    """A term on every pair of nodes, over the rows that have both; no other row is positive, negative or counted.

    Rows are compared with each other, so a term is made of the rows of one micro-batch on one rank: accumulation and
    more ranks give more such groups, not larger ones. The nodes' player learns (the generator, where two own some).

    Args:
        graph: what it will read.
        nodes: two or more (globs) of encoders, fusions, posteriors (their z) and heads (their output).
        weight: of the term.

    Raises:
        BuildError: fewer than two nodes. ConfigError: a glob matches no node of these kinds.
    """

    averaged: ClassVar[bool] = True
    """A row's value is the mean over the pairs that it has; False: their sum."""

    def __init__(self, graph: Graph, nodes: Iterable[str], weight: float) -> None:
        known = nodes_with_vectors(graph)
        chosen = match(nodes, known, "'nodes'", "encoder, fusion, posterior or head")
        generator = any(n in graph.owners("generator") for n in chosen)
        super().__init__(graph, ["generator" if generator else "discriminator"], weight)
        if len(chosen) < 2:
            raise BuildError(
                "one node has nothing to be aligned with",
                where="'nodes'",
                expected="two or more nodes",
                actual=", ".join(chosen),
                fix="name one node of each modality",
            )
        self.nodes = tuple(n for n in known if n in chosen)
        self.pairs = tuple(combinations(self.nodes, 2))
        self.widths = {n: _width(graph, n) for n in self.nodes}

    @abstractmethod
    def least(self, a: str, b: str) -> int:
        """Say how many rows a pair needs in a micro-batch to be counted at all."""

    @abstractmethod
    def compare(self, x: Float[Tensor, "r d"], y: Float[Tensor, "r e"]) -> Float[Tensor, " r"]:
        """Return each row's value; row i of x belongs to row i of y."""

    def shared(self, run: Run, a: str, b: str) -> Rows:
        """Bool [b]: the rows that have both nodes; none where they are too few. Read from presence alone."""
        both = run.present(a) & run.present(b)
        return both & (both.sum() >= self.least(a, b))

    def _pairs_of_rows(self, run: Run) -> Int[Tensor, " b"]:
        return torch.stack([self.shared(run, a, b) for a, b in self.pairs]).sum(0)

    def rows(self, run: Run, player: Player) -> Rows:
        """The rows that have both nodes of some pair."""
        return self._pairs_of_rows(run) > 0

    def forward(self, run: Run, player: Player) -> Term:
        """Add up the pairs of every row; in full precision."""
        number = self._pairs_of_rows(run)
        total = torch.zeros((), device=number.device)
        for a, b in self.pairs:
            rows = self.shared(run, a, b)
            if not rows.any():
                continue
            x, y = vectors_of(run, a)[rows], vectors_of(run, b)[rows]
            with torch.autocast(x.device.type, enabled=False):
                values = self.compare(_full(x), _full(y))
                total = total + (values / number[rows] if self.averaged else values).sum()
        return Term(total, (number > 0).sum())

    def check_widths(self) -> None:
        """Check that vectors can be multiplied with each other.

        Raises:
            BuildError: two nodes have different widths.
        """
        if len(set(self.widths.values())) > 1:
            raise BuildError(
                "the nodes have different widths, so there is no product of their vectors",
                where="'nodes'",
                expected="one width",
                actual=", ".join(f"{n}: {width}" for n, width in self.widths.items()),
                fix="put a fusion/projection of one width behind each, and name those",
            )


def _width(graph: Graph, name: str) -> int:
    module = graph[name]
    if isinstance(module, PosteriorNetwork):
        return module.latent
    return module.outputs if isinstance(module, Head) else cast(Encoder | Fusion, module).widths.pooled


def nodes_with_vectors(graph: Graph) -> list[str]:
    """List the encoders, fusions, posteriors and heads of a graph, in its order."""
    return [n for n in graph.wiring.order if graph.wiring.kind(n) in KINDS]


def vectors_of(run: Run, name: str) -> Float[Tensor, "b d"]:
    """Return a node's pooled vectors: a posterior's z, a head's output."""
    value = run[name]
    return value if isinstance(value, Tensor) else run.features(name).pooled


def _full(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def unit(x: Float[Tensor, "r d"]) -> Float[Tensor, "r d"]:
    """Divide each row by its length; zeros stay zeros."""
    return functional.normalize(x, dim=-1, eps=1e-6)
