"""Feature-wise linear modulation: Perez et al. 2018, arXiv:1709.07871."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import BuildError, Features, Fusion, Widths, nearest


class FilmFusion(Fusion):
    """Scale and shift the features of one input, the target, by what the others say.

        fused = gamma * linear_t(x_t) + beta
        gamma = 1 + sum_i gamma_i,  beta = sum_i beta_i,  (gamma_i, beta_i) = linear_i(x_i), over the conditions i != t

    The scales are predicted as differences from 1, as in the paper. A missing condition leaves the identity, gamma_i =
    beta_i = 0; in the place of a missing target a learned placeholder is modulated. Without conditions the fusion is
    linear_t.
    Axes: b batch, m inputs, d width.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike.
        target: the name of the input that is modulated; None for the first.

    Raises:
        BuildError: no input has the target's name.
    """

    def __init__(
        self, inputs: Mapping[str, Widths], *, width: Annotated[int, Field(ge=1)] = 128, target: str | None = None
    ) -> None:
        super().__init__(inputs, width)
        self.target = next(iter(inputs)) if target is None else target
        if self.target not in inputs:
            raise BuildError(
                "FiLM has no such input to modulate",
                where="'target'",
                expected="one of " + ", ".join(inputs),
                actual=self.target,
                fix=nearest(self.target, inputs),
            )
        sizes = {name: width if name == self.target else 2 * width for name in inputs}
        self.linears = nn.ModuleList(nn.Linear(w.pooled, sizes[name]) for name, w in inputs.items())
        self.placeholder = nn.Parameter(torch.zeros(inputs[self.target].pooled))

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present gives linear_t of the placeholder."""
        vectors = self.pooled(features, present)
        t = list(self.inputs).index(self.target)
        target = self.linears[t](torch.where(present[:, t, None], vectors[t], self.placeholder))
        said = [
            linear(x).masked_fill(~present[:, i, None], 0.0)
            for i, (linear, x) in enumerate(zip(self.linears, vectors, strict=True))
            if i != t
        ]
        if not said:
            return Features.of_pooled(target)
        scale, shift = torch.stack(said).sum(0).chunk(2, -1)
        return Features.of_pooled((1 + scale) * target + shift)
