"""An exponential moving average of the generator's weights, node by node; never of a discriminator's."""

import torch
from torch import Tensor

from fusion_engine.graph import Graph

RAMP = 0.05
"""The half-life never exceeds this share of the rows seen so far (Karras et al., 2020, arXiv:2006.06676)."""


class Average:
    """Averaged copies of parameters; buffers are copied as they are.

    beta = 0.5^(rows of a step / half-life in rows), the half-life ramped up from 0.
    """

    def __init__(self, graph: Graph, half_life: float) -> None:
        self.half_life = half_life
        names = graph.wiring.players["generator"] - (graph.wiring.players["discriminator"] - graph.wiring.shared)
        self.live = {
            f"{n}/{key}": value for n in sorted(names) for key, value in graph[n].state_dict(keep_vars=True).items()
        }
        self.values = {key: value.detach().clone() for key, value in self.live.items()}

    @torch.no_grad()
    def update(self, rows: int, seen: int) -> None:
        """Move towards the live weights after a step of ``rows`` rows, ``seen`` in all."""
        half_life = min(self.half_life, RAMP * seen)
        beta = 0.5 ** (rows / max(half_life, 1e-8))
        for key, value in self.live.items():
            if isinstance(value, torch.nn.Parameter):
                self.values[key].lerp_(value.detach(), 1 - beta)
            else:
                self.values[key].copy_(value)

    @torch.no_grad()
    def apply(self) -> None:
        """Put the averages in the place of the live weights."""
        for key, value in self.live.items():
            value.copy_(self.values[key])

    def load(self, values: dict[str, Tensor]) -> None:
        """Take the averages of a checkpoint."""
        for key, value in values.items():
            self.values[key].copy_(value)
