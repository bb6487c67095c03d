"""Places for the nodes of a graph in layers, every edge from left to right: Sugiyama et al., IEEE SMC 1981.

Edges that span layers get a place in each one that they cross, so that they pass between the nodes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import pairwise

Edge = tuple[str, str]
Slot = str | tuple[str, str, int]
"""A node, or an edge's place in a layer: (from, to, layer)."""
SWEEPS = 12


@dataclass(frozen=True)
class Layout:
    """Where everything is, in units of slots: layers from left to right, heights from the top.

    Args:
        layers: the slots of each layer, from the top.
        heights: of every slot; neighbours in a layer are at least one apart.
    """

    layers: Sequence[Sequence[Slot]]
    heights: Mapping[Slot, float]

    def layer(self, name: str) -> int:
        """The layer of a node."""
        return next(i for i, slots in enumerate(self.layers) if name in slots)

    def way(self, edge: Edge) -> list[tuple[int, float]]:
        """The (layer, height) of both ends of an edge and of what it crosses."""
        source, target = edge
        first, last = self.layer(source), self.layer(target)
        inner = [(i, self.heights[source, target, i]) for i in range(first + 1, last)]
        return [(first, self.heights[source]), *inner, (last, self.heights[target])]


def arrange(names: Sequence[str], edges: Iterable[Edge]) -> Layout:
    """Lay a graph without cycles out."""
    edges = list(dict.fromkeys(edges))
    depth = _depths(names, edges)
    layers: list[list[Slot]] = [[] for _ in range(1 + max(depth.values(), default=0))]
    for name in names:
        layers[depth[name]].append(name)
    links: list[tuple[Slot, Slot]] = []
    for source, target in edges:
        crossed: list[Slot] = [(source, target, i) for i in range(depth[source] + 1, depth[target])]
        for slot, i in zip(crossed, range(depth[source] + 1, depth[target]), strict=True):
            layers[i].append(slot)
        chain: list[Slot] = [source, *crossed, target]
        links += pairwise(chain)
    before, after = _neighbours(links, 1), _neighbours(links, 0)
    _untangle(layers, before, after)
    return Layout(layers, _heights(layers, before, after))


def _depths(names: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """Put every node right of its sources, and one without sources just left of its first target."""
    sources = {name: [s for s, t in edges if t == name] for name in names}
    targets = {name: [t for s, t in edges if s == name] for name in names}
    depth: dict[str, int] = {}
    for name in TopologicalSorter(sources).static_order():
        depth[name] = 1 + max((depth[s] for s in sources[name]), default=-1)
    for name in names:
        if not sources[name] and targets[name]:
            depth[name] = min(depth[t] for t in targets[name]) - 1
    return depth


def _neighbours(links: Sequence[tuple[Slot, Slot]], end: int) -> dict[Slot, list[Slot]]:
    """Collect who is linked: to the left of each slot (end 1) or to the right (end 0)."""
    found: dict[Slot, list[Slot]] = {}
    for link in links:
        found.setdefault(link[end], []).append(link[1 - end])
    return found


Neighbours = Mapping[Slot, Sequence[Slot]]


def _untangle(layers: list[list[Slot]], before: Neighbours, after: Neighbours) -> None:
    """Order each layer by the mean place of its neighbours, to and fro; keep the order with the fewest crossings."""
    best, fewest = [list(layer) for layer in layers], _crossings(layers, after)
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        neighbours = before if forth else after
        for i in range(1, len(layers)) if forth else range(len(layers) - 2, -1, -1):
            beside = {slot: float(place) for place, slot in enumerate(layers[i - 1 if forth else i + 1])}
            own = {slot: float(place) for place, slot in enumerate(layers[i])}
            layers[i].sort(key=lambda slot: _mean([beside[s] for s in neighbours.get(slot, ())], own[slot]))
        if (count := _crossings(layers, after)) < fewest:
            best, fewest = [list(layer) for layer in layers], count
    layers[:] = best


def _crossings(layers: Sequence[Sequence[Slot]], after: Neighbours) -> int:
    count = 0
    for left, right in pairwise(layers):
        place = {slot: i for i, slot in enumerate(right)}
        ends = [sorted(place[t] for t in after.get(slot, ())) for slot in left]
        count += sum(a > b for i, upper in enumerate(ends) for lower in ends[i + 1 :] for a in upper for b in lower)
    return count


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _heights(layers: Sequence[Sequence[Slot]], before: Neighbours, after: Neighbours) -> dict[Slot, float]:
    """Draw every slot towards its neighbours' mean height, at least one apart from those of its own layer."""
    heights: dict[Slot, float] = {slot: float(i) for layer in layers for i, slot in enumerate(layer)}
    tallest = max(map(len, layers), default=0)
    for layer in layers:
        for slot in layer:
            heights[slot] += (tallest - len(layer)) / 2
    for sweep in range(SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            near = [[*before.get(slot, ()), *after.get(slot, ())] for slot in layer]
            wished = [_mean([heights[s] for s in n], heights[slot]) for slot, n in zip(layer, near, strict=True)]
            heights.update(zip(layer, _apart(wished), strict=True))
    top = min(heights.values(), default=0.0)
    return {slot: height - top for slot, height in heights.items()}


def _apart(wished: Sequence[float]) -> list[float]:
    """Move heights as little as possible (least squares) until each is one below the one before.

    >>> _apart([0.0, 0.0, 5.0])
    [-0.5, 0.5, 5.0]
    """
    blocks: list[tuple[float, int]] = []
    for i, wish in enumerate(wished):
        mean, size = wish - i, 1
        while blocks and blocks[-1][0] > mean:
            other, count = blocks.pop()
            mean, size = (other * count + mean * size) / (count + size), size + count
        blocks.append((mean, size))
    flat = [mean for mean, size in blocks for _ in range(size)]
    return [mean + i for i, mean in enumerate(flat)]
