"""All fusion strategies in one place of a graph, under one protocol, beside each modality alone."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from fusion_engine.config import NodeConfig, RunConfig, read_config
from fusion_engine.engine import Engine
from fusion_engine.errors import ConfigError, nearest
from fusion_engine.predicting import LESS
from fusion_engine.report.dots import Dots, dot_plot
from fusion_engine.report.tables import read_csv
from fusion_engine.signature import config_model
from fusion_engine.study import Settings, spread, study
from fusion_engine.wiring import Wiring, match, wire

ALONE = "fusion/fusions.concat"
"""What one modality alone goes through: a small network, and nothing to fuse."""
BASELINE = "self_attention"
"""The late-fusion Transformer, which re-tuned methods do not reliably beat (arXiv:2512.22991)."""


def fusions(engine: Engine, config: Mapping[str, Any] | RunConfig, node: str = "fused") -> dict[str, dict[str, Any]]:
    """Put every registered fusion into a node's place, and each of its inputs alone.

    A fusion gets those keys of the node's ``with`` that it has, such as ``width``, and its own defaults for all others.
    One that cannot take so many inputs is left out. The names are the fusions', short where no two plugins share them,
    and ``image alone``.

    Args:
        engine: whose fusions.
        config: with a fusion of two or more inputs.
        node: where.

    Raises:
        ConfigError: the config has no such node, or it is no fusion of several inputs.
    """
    base = read_config(config)
    wiring = wire(base, engine.registry)
    if node not in base.nodes:
        raise ConfigError(f"there is no node {node!r} to put fusions into", fix=nearest(node, base.nodes))
    inputs = wiring.nodes[node].sources
    if wiring.kind(node) != "fusion" or len(inputs) < 2:
        actual = f"{wiring.kind(node)} of {', '.join(inputs)}"
        raise ConfigError(f"{node!r} has nothing to compare", expected="a fusion of two or more inputs", actual=actual)
    found = {f"{_said(wiring, i)} alone": _alone(base, wiring, node, i) for i in inputs}
    entries = engine.registry.of("fusion")
    names = [entry.full_name.rpartition(".")[2] for entry in entries]
    for entry, name in zip(entries, names, strict=True):
        most = entry.load().max_inputs
        if most is None or most >= len(inputs):
            unique = name if names.count(name) == 1 else entry.full_name
            found[unique] = _with(base, node, base.nodes[node], entry.full_name, entry.load())
    return found


def _said(wiring: Wiring, name: str) -> str:
    above = [m for m in wiring.modalities if m in wiring.ancestors(name)]
    return "+".join(above) or name


def _with(base: RunConfig, node: str, now: NodeConfig, use: str, component: type) -> dict[str, Any]:
    config = base.plain()
    keys = config_model(component).model_fields
    given = {key: value for key, value in now.with_.items() if key in keys}
    config["nodes"][node] = {**config["nodes"][node], "use": use, "with": given}
    return config


def _alone(base: RunConfig, wiring: Wiring, node: str, source: str) -> dict[str, Any]:
    """Wire one input alone, and drop the nodes that nothing needs then."""
    config = base.plain()
    width = {key: value for key, value in base.nodes[node].with_.items() if key == "width"}
    config["nodes"][node] = {"use": ALONE, "in": [source], "with": width}
    others = set(wiring.nodes[node].sources) - {source}
    ends = {n for n in wiring.nodes if not wiring.descendants([n])}
    kept = set(ends)
    for end in ends:
        kept |= wiring.ancestors(end)
    needless = {n for other in others for n in (other, *wiring.ancestors(other)) if n in wiring.nodes}
    needed = {source, *wiring.ancestors(source)}
    config["nodes"] = {n: c for n, c in config["nodes"].items() if n in needed or n not in needless}
    return config


def compare(
    engine: Engine,
    config: Mapping[str, Any] | RunConfig,
    seeds: Sequence[int],
    folder: Path,
    *,
    node: str = "fused",
    only: Sequence[str] = ("*",),
    each: Settings | None = None,
    console: Console | None = None,
) -> list[dict[str, Any]]:
    """Train every fusion in the place of ``node`` with every seed, and write ``comparison.md`` and ``comparison.svg``.

    The folder also gets the study's ``figures.csv`` and ``figures.md``; runs that it holds are not repeated, so that an
    interrupted comparison goes on where it was.

    Args:
        engine: with the plugins whose fusions take part.
        config: a model with a fusion and a predicting head, its data, its training and its evaluation.
        seeds: of data and training.
        folder: where to write.
        node: the fusion's place.
        only: which variants (globs), such as ``sum`` and ``* alone``.
        each: further settings by seed, such as another fold.
        console: to say what is done.

    Raises:
        ConfigError: there is no such node, or the config has no data or evaluation.
    """
    variants = fusions(engine, config, node)
    chosen = match(only, variants, "'only'", "variant")
    try:
        return study(
            engine, {n: c for n, c in variants.items() if n in chosen}, seeds, folder, each=each, console=console
        )
    finally:
        if (folder / "figures.csv").exists():
            rows = read_csv(folder / "figures.csv")
            (folder / "comparison.md").write_text(as_table(rows), encoding="utf-8")
            (folder / "comparison.svg").write_text(as_plot(rows), encoding="utf-8")


def _order(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Variants, the best in the first figure first."""
    first = rows[0]["name"]
    sign = 1 if str(rows[0].get("note", "")).endswith(LESS) else -1
    means = {v: fmean(_values(rows, v, first)) for v in dict.fromkeys(r["variant"] for r in rows)}
    return sorted(means, key=lambda v: sign * means[v])


def _values(rows: Iterable[Mapping[str, Any]], variant: str, name: str) -> list[float]:
    return [r["value"] for r in rows if r["variant"] == variant and r["name"] == name]


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The first figure, itself for every subset of the modalities, and the areas under noise."""
    first = rows[0]["name"]
    names = dict.fromkeys(r["name"] for r in rows)
    noise = [n for n in names if n.startswith(f"{first} under noise: ")]
    return [first, *sorted((n for n in names if n.startswith(f"{first}: ")), key=lambda n: n.count("+")), *noise]


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay a comparison out: a line a fusion, the best first, a column a figure; means and deviations over the seeds."""
    columns = _columns(rows)
    head = ["fusion", "parameters", "seconds", *columns]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for variant in _order(rows):
        own = [r for r in rows if r["variant"] == variant]
        seconds = fmean({r["seed"]: r["seconds"] for r in own}.values())
        cells = [variant, f"{own[0]['parameters']:,}", f"{seconds:.0f}"]
        cells += [spread(_values(rows, variant, name)) for name in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def as_plot(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw the first figure of every fusion as SVG: a dot a seed, a bar at their mean."""
    first = rows[0]["name"]
    lines = [Dots(v, _values(rows, v, first), v.endswith(" alone") or v == BASELINE) for v in _order(rows)]
    return dot_plot(f"{first}, a dot a seed", lines)
