"""Learned stand-ins for absent inputs, shared by the fusions that read a concatenation."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusion_engine import Widths


def placeholders(inputs: Mapping[str, Widths]) -> nn.ParameterList:
    """Make one an input, as wide as its pooled vector; zeros to start with."""
    return nn.ParameterList(nn.Parameter(torch.zeros(w.pooled)) for w in inputs.values())


def replaced(
    vectors: Iterable[Float[Tensor, "b _d"]], stand_ins: Iterable[Tensor], present: Bool[Tensor, "b m"]
) -> list[Float[Tensor, "b _d"]]:
    """Put each input's stand-in where a row lacks it."""
    pairs = enumerate(zip(vectors, stand_ins, strict=True))
    return [torch.where(present[:, i, None], x, stand_in) for i, (x, stand_in) in pairs]
