"""Cross entropy of a predicting head against its label modality."""

from typing import Annotated, cast

import torch
from pydantic import Field
from torch.nn import functional

from fusion_engine import BuildError, CategoryModality, Graph, Head, Loss, Player, Rows, Run, Term


class CrossEntropy(Loss):
    """-log softmax(head)[label], over the rows that have the label and any input; missing labels are left out.

    Args:
        head: the predicting head; its node's ``out`` is the label.
        weight: of the term.
        smoothing: label smoothing (Szegedy et al., 2016, arXiv:1512.00567, section 7).
    """

    def __init__(
        self,
        graph: Graph,
        *,
        head: str,
        weight: Annotated[float, Field(ge=0)] = 1.0,
        smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        owners = [p for p in graph.wiring.players if head in graph.wiring.players[p]]
        super().__init__(graph, owners[:1] if len(owners) > 1 else owners, weight)
        label = graph.wiring.nodes[head].out
        if label is None or not isinstance(graph.modalities[label], CategoryModality):
            raise BuildError(
                f"the head {head!r} predicts no label",
                where="'head'",
                expected="a head with 'out', a category",
                actual=f"out: {label}",
            )
        outputs, classes = cast(Head, graph[head]).outputs, len(cast(CategoryModality, graph.modalities[label]).classes)
        if outputs != classes:
            raise BuildError(
                f"the head {head!r} does not give one logit a class",
                where="'head'",
                expected=f"{classes} logits, as head/classification has",
                actual=f"{outputs}",
                fix="use the loss that belongs to this head, such as loss/ordinal to head/ordinal",
            )
        self.head, self.label, self.smoothing = head, label, smoothing

    def rows(self, run: Run, player: Player) -> Rows:
        """The rows that have the label and something to predict it from."""
        return run.batch.present[self.label] & run.present(self.head)

    def forward(self, run: Run, player: Player) -> Term:
        """Add up the rows that have the label."""
        rows = self.rows(run, player)
        labels = run.batch.signals[self.label].data.masked_fill(~rows, 0)
        values = functional.cross_entropy(run[self.head], labels, reduction="none", label_smoothing=self.smoothing)
        return Term.of(torch.where(rows, values, 0.0), rows)
