"""A run's report: one HTML page that holds all it shows, asks for nothing outside itself, and can be mailed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fusion_engine.config import as_yaml
from fusion_engine.model import FusionModel
from fusion_engine.report import gallery
from fusion_engine.report.diagram import diagram, owner
from fusion_engine.report.drawing import of_port
from fusion_engine.report.facts import environment
from fusion_engine.report.plots import curves, line_chart, spans
from fusion_engine.report.sections import as_html
from fusion_engine.report.shapes import shapes
from fusion_engine.report.summary import number, summarise
from fusion_engine.report.tiles import Shelf, Tile
from fusion_engine.training.turns import is_statistic
from fusion_engine.wiring import Wiring

COLUMNS, STEPS = 8, 8
"""Samples a line, and steps of an interpolation."""
CELLS = {1: (8, 56), 2: (6, 52), 3: (4, 64)}
"""By the number of targets: samples a cell of the matrix of translations, and their pixels on the page."""
CELL = (4, 52)
"""The same for more targets."""


def write_page(
    folder: Path,
    model: FusionModel,
    *,
    rows: Sequence[Mapping[str, Any]],
    figures: Sequence[Mapping[str, Any]] = (),
    sections: Sequence[tuple[str, str]] = (),
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Write ``report.html`` into a run's folder.

    Args:
        folder: of the run.
        model: trained; its ``progress.history`` becomes the curves.
        rows: real rows to show, best of the test split.
        figures: what was measured: ``name``, ``value``, ``real``, ``chance``, ``note`` and any further keys.
        sections: titles and Markdown, from plugins.
        facts: about the run, for the line below the title.
    """
    shelf, wiring, sizes = Shelf(), model.graph.wiring, shapes(model)
    chosen = gallery.choose(model, rows, COLUMNS)
    targets = gallery.decoded(model)
    examples, pixels = CELLS.get(len(targets), CELL)
    page = _templates().get_template("page.html")
    text = page.render(
        name=model.config.name,
        facts=dict(facts or {}),
        modalities=list(model.modalities),
        figures=summarise(figures) if figures else None,
        samples=[_samples(shelf, line) for line in gallery.samples(model, chosen, COLUMNS)],
        matrix=_matrix(shelf, gallery.translations(model, chosen[:examples])),
        targets=targets,
        tile_size=pixels,
        ways=[_way(shelf, way) for way in gallery.interpolation(model, chosen, STEPS)],
        steps=STEPS,
        charts=_charts(model.progress.history),
        diagram=diagram(wiring, sizes, _trained(model)),
        nodes=_nodes(model, wiring, sizes),
        owners=list(dict.fromkeys(owner(wiring, name) for name in wiring.nodes)),
        extra=[(title, as_html(text, folder)) for title, text in sections],
        environment=environment(model),
        config=as_yaml(model.config),
        sounds=shelf.sounds,
    )
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("fusion_engine", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@dataclass(frozen=True)
class Gallery:
    """Titled lines of tiles, for one modality or one source."""

    name: str
    lines: Mapping[str, Sequence[Tile]]

    @property
    def wordy(self) -> bool:
        """Whether its samples are texts, which need more room."""
        return any(tile.wordy for tiles in self.lines.values() for tile in tiles)


def _samples(shelf: Shelf, found: gallery.Samples) -> Gallery:
    made = {"reconstructed": found.reconstructed, "predicted": found.predicted, "generated": found.generated}
    lines = {"real": found.real, **{title: line for title, line in made.items() if line}}
    shown = {title: line for title, line in lines.items() if any(line)}
    return Gallery(found.name, {t: shelf.tiles(line, f"{found.name}, {t}") for t, line in shown.items()})


def _matrix(shelf: Shelf, found: Sequence[gallery.Translations]) -> list[tuple[Gallery, Sequence[Tile]]]:
    """Pair the targets' cells of each source with the samples that were given."""
    rows: list[tuple[Gallery, Sequence[Tile]]] = []
    for row in found:
        made = {to: shelf.tiles(line or [], f"{to} made from {row.source}", "") for to, line in row.into.items()}
        rows.append((Gallery(row.source, made), shelf.tiles(row.given, f"{row.source}, given")))
    return rows


def _way(shelf: Shelf, found: gallery.Way) -> tuple[str, Sequence[Tile]]:
    """Lay an interpolation out: the first row's own sample, the steps, the last row's own."""
    (first,) = shelf.tiles([found.first], f"{found.name}, first row, real,")
    (last,) = shelf.tiles([found.last], f"{found.name}, last row, real,")
    return found.name, [first, *shelf.tiles(found.steps, f"{found.name}, step"), last]


def _charts(history: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, str, Markup]]]]:
    """Draw the losses of each player, and behind them what it tells besides: title, last value, chart."""
    stages, found = spans(history), []
    for player, lines in curves(history).items():
        for told in (False, True):
            drawn = [
                (loss, number(points[-1].value), line_chart(loss, points, stages, player))
                for loss, points in lines.items()
                if is_statistic(loss) == told
            ]
            if drawn:
                found.append((f"{player or 'training'}: statistics" if told else player or "training", drawn))
    return found


def _trained(model: FusionModel) -> list[str]:
    """Name the priors that train with a posterior."""
    posteriors = model.graph.wiring.of_kind("posterior")
    return [prior for posterior in posteriors for prior in model.graph.trained_priors(posterior)]


def _nodes(model: FusionModel, wiring: Wiring, sizes: Mapping[str, str]) -> list[tuple[str, ...]]:
    """List the nodes: name, component, inputs, output, owner, parameters."""
    rows, trained = list[tuple[str, ...]](), _trained(model)
    for name, use, _, parameters in model.graph.summary():
        ports = "; ".join(f"{p} = {', '.join(s)}" for p, s in wiring.nodes[name].ports.items())
        of = f"{of_port(name, trained)} {', '.join(wiring.nodes[name].of)}" if wiring.nodes[name].of else ""
        rows.append((name, use, ports or of, sizes[name], owner(wiring, name), f"{parameters:,}"))
    return rows
