"""Likelihood of an ordered class under cumulative logits: McCullagh, JRSS B, 1980."""

from typing import Annotated, cast

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from fusion_engine import BuildError, CategoryModality, Graph, Head
from fusion_engine_supervised.cumulative import log_probabilities
from fusion_engine_supervised.target_loss import TargetLoss


class OrdinalLoss(TargetLoss):
    """-log P(y = label) of a head whose logits are those of P(y > j).

        P(y = j) = sigmoid(l_{j-1}) - sigmoid(l_j)

    Rows without the label are left out. Axes: b batch, o = v - 1 logits of v classes.

    Args:
        head: the predicting head, such as head/ordinal; its node's ``out`` is the label.
        weight: of the term.

    Raises:
        BuildError: the head has another number of outputs, so they are no cumulative logits.
    """

    def __init__(self, graph: Graph, *, head: str, weight: Annotated[float, Field(ge=0)] = 1.0) -> None:
        super().__init__(graph, head, CategoryModality, weight)
        classes = len(cast(CategoryModality, graph.modalities[self.target]).classes)
        outputs = cast(Head, graph[head]).outputs
        if outputs != classes - 1:
            raise BuildError(
                f"the head {head!r} has no cumulative logits",
                where="'head'",
                expected=f"{classes - 1} outputs for {classes} classes, such as head/ordinal",
                actual=f"{outputs} outputs, {graph.wiring.nodes[head].use}",
            )

    def values(self, output: Float[Tensor, "b o"], target: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Look up the label's log probability."""
        return -log_probabilities(output).gather(1, target[:, None])[:, 0]
