"""What the losses of predicting heads share: the target, and the rows that have it."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from fusion_engine import BuildError, Graph, Loss, Player, Rows, Run, Term, fill


class TargetLoss(Loss, ABC):
    """A value a row that compares what a head predicts with the signal of its modality.

    Rows that lack the target, or everything that the head reads, are left out: a missing label is a missing modality.

    Args:
        graph: what it will read.
        head: the predicting head; its node's ``out`` is the target.
        family: of the modality that the head must predict.
        weight: of the term.

    Raises:
        BuildError: the head predicts something else, or nothing.
    """

    def __init__(self, graph: Graph, head: str, family: type, weight: float) -> None:
        owners = [p for p in graph.wiring.players if head in graph.wiring.players[p]]
        super().__init__(graph, owners[:1] if len(owners) > 1 else owners, weight)
        target = graph.wiring.nodes[head].out
        if target is None or not isinstance(graph.modalities[target], family):
            raise BuildError(
                f"the head {head!r} predicts something else",
                where="'head'",
                expected=f"a head with 'out', a {family.__name__}",
                actual=f"out: {target}",
            )
        self.head, self.target = head, target

    def rows(self, run: Run, player: Player) -> Rows:
        """The rows that have the target and something to predict it from."""
        return run.batch.present[self.target] & run.present(self.head)

    def forward(self, run: Run, player: Player) -> Term:
        """Add up the rows that have the target."""
        rows = self.rows(run, player)
        target = fill(run.batch.signals[self.target].data, rows)
        return Term.of(self.values(run[self.head], target), rows)

    @abstractmethod
    def values(self, output: Float[Tensor, "b o"], target: Tensor) -> Float[Tensor, " b"]:
        """Compare each row's output with its target; a row without one has zeros there."""
