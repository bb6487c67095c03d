"""A graph as inline SVG: nodes in layers with component and shape, the edges between them, and whose each node is."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise

from markupsafe import Markup

from fusion_engine.report.drawing import of_port
from fusion_engine.report.layering import Layout, arrange
from fusion_engine.wiring import Wiring

HIGH, GAP, BETWEEN, EDGE = 58, 16, 64, 8
"""Pixels: a box's height, between boxes of a layer, between layers, around all."""
INSET = 14
"""Pixels between a box's side and its text."""


@dataclass(frozen=True)
class Box:
    """One node or modality: three lines of text, its kind, whose it is."""

    name: str
    kind: str
    owner: str
    lines: tuple[str, str, str]
    told: str


def owner(wiring: Wiring, name: str) -> str:
    """Say whose a node is: ``generator``, ``discriminator``, ``both``; a modality is nobody's."""
    owners: list[str] = [player for player, names in wiring.players.items() if name in names]
    return "both" if len(owners) > 1 else (owners or ["nobody"])[0]


def boxes(wiring: Wiring, shapes: Mapping[str, str]) -> list[Box]:
    """Say what stands in each box."""
    found = []
    for name, use in wiring.modalities.items():
        found.append(Box(name, "modality", "nobody", (name, use, shapes.get(name, "")), f"{name}: {use}"))
    for name in wiring.order:
        node, whose = wiring.nodes[name], owner(wiring, name)
        ports = "; ".join(f"{port} = {', '.join(sources)}" for port, sources in node.ports.items())
        told = f"{name}: {node.use}, {ports or 'no inputs'}, {whose}"
        found.append(Box(name, node.kind, whose, (name, node.use, shapes.get(name, "")), told))
    return found


def edges(wiring: Wiring, trained: Collection[str] | None = None) -> dict[tuple[str, str], str]:
    """List who feeds whom and the port's label; the usual port ``in`` has none. Some priors train with a posterior."""
    found: dict[tuple[str, str], str] = {}
    for name in wiring.order:
        node = wiring.nodes[name]
        for port, sources in [*node.ports.items(), (of_port(name, trained), node.of)]:
            for source in sources:
                known = found.get((source, name))
                label = "" if port == "in" else port
                found[source, name] = f"{known}, {label}" if known else label
    return found


def diagram(wiring: Wiring, shapes: Mapping[str, str], trained: Collection[str] | None = None) -> Markup:
    """Draw the graph. A discriminator's nodes are dashed.

    Args:
        wiring: of the graph.
        shapes: by modality and node.
        trained: the priors that train with a posterior, others with an ``of`` being fitted to one; None: not known.
    """
    drawn, links = boxes(wiring, shapes), edges(wiring, trained)
    layout = arrange([box.name for box in drawn], links)
    widths = _widths(layout, drawn)
    lefts = [EDGE + sum(w + BETWEEN for w in widths[:i]) for i in range(len(widths))]
    page = _Page(layout, widths, lefts)
    width = lefts[-1] + widths[-1] + EDGE
    height = round(EDGE * 2 + max(layout.heights.values()) * (HIGH + GAP) + HIGH)
    head = Markup('<svg class="graph" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">')
    label = f"The graph: {len(wiring.modalities)} modalities, {len(wiring.nodes)} nodes, {len(links)} edges"
    parts = [head.format(width, height, width, height, label), ARROW]
    parts += [
        page.edge(edge, port, "fitted" if edge[0] in wiring.nodes[edge[1]].of else "") for edge, port in links.items()
    ]
    parts += [page.box(box) for box in drawn]
    return Markup("\n").join([*parts, Markup("</svg>")])


def standalone(wiring: Wiring) -> str:
    """Draw the graph as a file of its own: with the page's style, in its light colours, on its background."""
    rules = files("fusion_engine.report").joinpath("page.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"(--[a-z]+): (#[0-9a-f]+);", rules[: rules.index("@media")]))
    style = "".join(f"{line}\n" for line in rules.splitlines() if line.startswith(".graph "))
    style = re.sub(r"var\((--[a-z]+)\)", lambda found: colours[found[1]], style)
    head = Markup('<svg xmlns="http://www.w3.org/2000/svg" class="graph"')
    body = Markup("<style>\n.graph {{ font-family: system-ui, sans-serif; color: {} }}\n{}</style>").format(
        colours["--ink"], Markup(style)
    )
    page = Markup('<rect width="100%" height="100%" fill="{}"/>').format(colours["--page"])
    drawn = diagram(wiring, {}).replace(Markup('<svg class="graph"'), head, 1)
    return f"{drawn.replace(ARROW, Markup(chr(10)).join([body, page, ARROW]), 1)}\n"


ARROW = Markup(
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path class="head" d="M0 0.5 8 4 0 7.5z"/></marker></defs>'
)


def _widths(layout: Layout, drawn: list[Box]) -> list[int]:
    """Make each layer as wide as its longest text."""
    size = {box.name: max(_long(line, i) for i, line in enumerate(box.lines)) for box in drawn}
    names = [[slot for slot in layer if isinstance(slot, str)] for layer in layout.layers]
    return [round(max(size[name] for name in layer) + 2 * INSET) for layer in names]


def _long(line: str, i: int) -> float:
    """Estimate the pixels of a line of text: a bold, a small, a monospaced one."""
    return len(line) * (7.6, 6.1, 6.7)[i]


@dataclass(frozen=True)
class _Page:
    layout: Layout
    widths: list[int]
    lefts: list[int]

    def _middle(self, height: float) -> float:
        return round(EDGE + height * (HIGH + GAP) + HIGH / 2, 1)

    def box(self, box: Box) -> Markup:
        """Draw a box with its three lines."""
        layer = self.layout.layer(box.name)
        left, width = self.lefts[layer], self.widths[layer]
        top = self._middle(self.layout.heights[box.name]) - HIGH / 2
        round_by = HIGH / 2 if box.kind == "modality" else 14 if box.kind in ("posterior", "prior") else 5
        parts = [
            Markup('<g class="node {} {}" data-node="{}"><title>{}</title>').format(
                box.kind, box.owner, box.name, box.told
            ),
            Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="{}"/>').format(left, top, width, HIGH, round_by),
        ]
        if box.owner == "both":
            inner = Markup('<rect class="inner" x="{}" y="{}" width="{}" height="{}" rx="{}"/>')
            parts.append(inner.format(left + 4, top + 4, width - 8, HIGH - 8, max(1, round_by - 4)))
        for i, line in enumerate(box.lines):
            text = Markup('<text class="l{}" x="{}" y="{}">{}</text>')
            parts.append(text.format(i, round(left + width / 2, 1), round(top + 19 + i * 15.5, 1), line))
        return Markup("").join([*parts, Markup("</g>")])

    def edge(self, edge: tuple[str, str], port: str, kind: str) -> Markup:
        """Draw an edge as a smooth line past the boxes of the layers it crosses."""
        way = self.layout.way(edge)
        corners: list[tuple[float, float]] = []
        for i, height in way:
            y = self._middle(height)
            if i != way[0][0]:
                corners.append((float(self.lefts[i]), y))
            if i != way[-1][0]:
                corners.append((float(self.lefts[i] + self.widths[i]), y))
        path = f"M{corners[0][0]} {corners[0][1]}" + "".join(_bend(a, b) for a, b in pairwise(corners))
        found = Markup('<path class="edge {}" data-edge="{}" d="{}" marker-end="url(#arrow)"/>').format(
            kind, f"{edge[0]} {edge[1]}", path
        )
        x, y = corners[-1]
        return found + (
            Markup('<text class="port" x="{}" y="{}">{}</text>').format(x - 11, y - 5, port) if port else ""
        )


def _bend(a: tuple[float, float], b: tuple[float, float]) -> str:
    """Go on to b, level at both ends."""
    half = round((a[0] + b[0]) / 2, 1)
    return f"L{b[0]} {b[1]}" if a[1] == b[1] else f"C{half} {a[1]} {half} {b[1]} {b[0]} {b[1]}"
