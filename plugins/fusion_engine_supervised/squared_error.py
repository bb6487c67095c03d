"""Squared error of a head against its numbers: least squares, Gauss, Theoria motus, 1809."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusion_engine import Graph, NumberModality
from fusion_engine_supervised.target_loss import TargetLoss


class SquaredError(TargetLoss):
    """The mean over channels of the squared difference, in units of the prepared data.

        row = 1/c sum_j (mean_j - x_j)^2

    Rows without the numbers are left out. Axes: b batch, c channels.

    Args:
        head: the predicting head; its node's ``out`` is the numbers.
        weight: of the term.
    """

    def __init__(self, graph: Graph, *, head: str, weight: Annotated[float, Field(ge=0)] = 1.0) -> None:
        super().__init__(graph, head, NumberModality, weight)

    def values(self, output: Float[Tensor, "b c"], target: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
        """Average over the channels."""
        return (output - target).pow(2).mean(-1)
