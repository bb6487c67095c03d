"""Huber's loss of a head against its numbers: Huber, Annals of Mathematical Statistics, 1964."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from fusion_engine import Graph, NumberModality
from fusion_engine_supervised.target_loss import TargetLoss


class Huber(TargetLoss):
    """Half the squared difference where it is small and a straight line beyond: outliers pull with a bounded force.

        row = 1/c sum_j h(mean_j - x_j),  h(e) = e^2 / 2 if |e| <= delta else delta (|e| - delta / 2)

    Rows without the numbers are left out. Axes: b batch, c channels.

    Args:
        head: the predicting head; its node's ``out`` is the numbers.
        weight: of the term.
        delta: where the line begins, in units of the prepared data.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        head: str,
        weight: Annotated[float, Field(ge=0)] = 1.0,
        delta: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        super().__init__(graph, head, NumberModality, weight)
        self.delta = delta

    def values(self, output: Float[Tensor, "b c"], target: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
        """Average over the channels."""
        return functional.huber_loss(output, target, reduction="none", delta=self.delta).mean(-1)
