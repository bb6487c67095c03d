"""Sparsely gated mixture of experts: Shazeer et al. 2017, arXiv:1701.06538 (multimodal: LIMoE, arXiv:2206.02770)."""

from collections.abc import Mapping
from typing import Annotated

import torch
from einops import einsum
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import BuildError, Features, Fusion, Widths
from fusion_engine_fusions.placeholders import placeholders, replaced


class MixtureOfExpertsFusion(Fusion):
    """Route each row to a few of several experts, by what it holds and by what it lacks.

        x = [x_1, ..., x_m],  g = softmax over the k largest of router([x, present]), 0 for the others
        fused = sum_e g_e expert_e(x),  expert_e(x) = B_e relu(A_e x + a_e) + b_e

    In the place of a missing input x holds a learned placeholder, and the router is told of it by ``present``.

    All experts are computed, in one product each layer, and the gates choose among them: at these sizes that is
    faster than gathering rows. There is no noise and no balancing term, so a row's route is a function of the row
    alone; the paper uses both against collapse, which thus may happen: experts that no row chooses learn nothing. Take
    ``chosen`` equal to ``experts`` for soft routing, which trains all of them on every row. One chosen expert alone
    would leave the router without a gradient, hence at least two.
    Axes: b batch, m inputs, e experts, h hidden, d width.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike.
        experts: how many there are.
        chosen: k, how many of them a row uses.
        hidden: the width of an expert's hidden layer; that of the output where it is not given.

    Raises:
        BuildError: more experts are chosen than there are.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        width: Annotated[int, Field(ge=1)] = 128,
        experts: Annotated[int, Field(ge=2)] = 4,
        chosen: Annotated[int, Field(ge=2)] = 2,
        hidden: Annotated[int, Field(ge=1)] | None = None,
    ) -> None:
        if chosen > experts:
            expected, actual = f"at most {experts}, the experts there are", f"{chosen}"
            raise BuildError(
                "more experts are chosen than there are",
                where="'chosen'",
                expected=expected,
                actual=actual,
                fix=f"chosen {experts}, or experts {chosen}",
            )
        super().__init__(inputs, width)
        self.chosen, hidden = chosen, hidden or width
        total = sum(w.pooled for w in inputs.values())
        self.placeholders = placeholders(inputs)
        self.router = nn.Linear(total + len(inputs), experts)
        self.weight_in, self.bias_in = _uniform(total, experts, total, hidden), _uniform(total, experts, hidden)
        self.weight_out, self.bias_out = _uniform(hidden, experts, hidden, width), _uniform(hidden, experts, width)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present is made of placeholders alone."""
        x = torch.cat(replaced(self.pooled(features, present), self.placeholders, present), -1)
        hidden = (einsum(x, self.weight_in, "b i, e i h -> b e h") + self.bias_in).relu()
        made = einsum(hidden, self.weight_out, "b e h, e h d -> b e d") + self.bias_out
        return Features.of_pooled(einsum(self.gates(x, present), made, "b e, b e d -> b d"))

    def gates(self, x: Float[Tensor, "b i"], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b e"]:
        """Weigh the experts: k of them are above zero, and they sum to one."""
        logits = self.router(torch.cat([x, present.to(x.dtype)], -1))
        best = logits.topk(self.chosen, -1).indices
        kept = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, best, True)
        gates: Tensor = logits.masked_fill(~kept, -torch.inf).softmax(-1)
        return gates


def _uniform(fan_in: int, *shape: int) -> nn.Parameter:
    """Start where nn.Linear starts."""
    return nn.Parameter(torch.empty(shape).uniform_(-(fan_in**-0.5), fan_in**-0.5))
