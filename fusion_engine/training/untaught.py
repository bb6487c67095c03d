"""What no loss has reached: weights that were to learn and never received a gradient.

Vectors are left out: a placeholder waits for a row that lacks something, and a relativistic game, in which differences
of scores count, has no use for their last bias.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, cast

from torch import nn

from fusion_engine.graph import Graph

SHOWN = 3
"""How many weights of a node a message names."""


class Untaught:
    """Keeps the weights of two axes and more that have had no gradient yet, or only zeros.

    Args:
        graph: whose they are; what a component lists in ``unused_parameters`` is left out.
        learning: the parameters that some turn is to teach.
    """

    def __init__(self, graph: Graph, learning: Iterable[nn.Parameter]) -> None:
        chosen = {id(p) for p in learning}
        self.waiting = {
            (node, name): p
            for node in graph.wiring.order
            for name, p in graph[node].named_parameters()
            if id(p) in chosen and p.ndim > 1 and not _excused(graph[node], name)
        }

    def look(self) -> None:
        """Drop those that have a gradient now."""
        taught = [key for key, p in self.waiting.items() if p.grad is not None and bool(p.grad.any())]
        for key in taught:
            del self.waiting[key]

    def told(self) -> str:
        """Say node by node which are left; empty where all have learned."""
        nodes = dict.fromkeys(node for node, _ in self.waiting)
        return "; ".join(f"{node!r}: {_few([p for n, p in self.waiting if n == node])}" for node in nodes)


def _excused(module: nn.Module, name: str) -> bool:
    excused: Mapping[str, str] = cast(Any, module).unused_parameters
    return any(fnmatchcase(name, glob) for glob in excused)


def _few(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
