"""Binary cross entropy of a head against its tags: the loss of logistic regression, Cox, JRSS B, 1958."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from fusion_engine import Graph, TagsModality
from fusion_engine_supervised.target_loss import TargetLoss


class BinaryCrossEntropy(TargetLoss):
    """The mean over tags of the negative log-likelihood of each.

        row = -1/v sum_j (x_j log sigmoid(l_j) + (1 - x_j) log sigmoid(-l_j))

    Rows without the tags are left out; an empty set of tags is no missing one. Axes: b batch, v classes.

    Args:
        head: the predicting head, one logit a tag; its node's ``out`` is the tags.
        weight: of the term.
    """

    def __init__(self, graph: Graph, *, head: str, weight: Annotated[float, Field(ge=0)] = 1.0) -> None:
        super().__init__(graph, head, TagsModality, weight)

    def values(self, output: Float[Tensor, "b v"], target: Float[Tensor, "b v"]) -> Float[Tensor, " b"]:
        """Average over the tags."""
        return functional.binary_cross_entropy_with_logits(output, target, reduction="none").mean(-1)
