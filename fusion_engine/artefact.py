"""A saved model: a folder of text and tensors, without pickle.

config.yaml (all defaults filled in, full names), model.safetensors, plugins.json (distribution and version of every
plugin used), metrics.json, README.md (a model card).
"""

import json
import os
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from fusion_engine.config import RunConfig, write_config
from fusion_engine.errors import FusionError, PluginError
from fusion_engine.graph import Graph
from fusion_engine.plugins import Plugins

CONFIG, WEIGHTS, PLUGINS, METRICS, CARD = (
    "config.yaml",
    "model.safetensors",
    "plugins.json",
    "metrics.json",
    "README.md",
)


def _uses(config: RunConfig) -> Iterator[str]:
    parts = [*config.modalities.values(), *config.nodes.values(), *config.losses.values()]
    yield from (part.use for part in parts)


def plugins_of(config: RunConfig, plugins: Plugins) -> dict[str, dict[str, Any]]:
    """List the plugins that a completed config names: where each came from, and in which version."""
    found: dict[str, dict[str, Any]] = {}
    for use in _uses(config):
        info = plugins.info(plugins.registry.resolve(use).plugin)
        entry = found.setdefault(
            info.name,
            {"distribution": info.distribution, "version": info.version, "origin": info.origin, "components": []},
        )
        if use not in entry["components"]:
            entry["components"].append(use)
    return found


def _self_contained(config: RunConfig) -> RunConfig:
    """Leave out where pretrained weights came from: the model has its own, and the file need not exist elsewhere."""
    plain = config.plain()
    for node in plain["nodes"].values():
        if "pretrained" in node["with"]:
            node["with"]["pretrained"] = None
    return RunConfig.model_validate(plain)


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def write_artefact(path: Path, config: RunConfig, graph: Graph, plugins: Plugins, metrics: Mapping[str, Any]) -> Path:
    """Write a model's folder; a file that was there is replaced whole."""
    path.mkdir(parents=True, exist_ok=True)
    part = path / (WEIGHTS + ".part")
    save_model(graph, str(part))
    os.replace(part, path / WEIGHTS)
    part = path / (CONFIG + ".part")
    write_config(_self_contained(config), part)
    os.replace(part, path / CONFIG)
    _write(path / PLUGINS, json.dumps(plugins_of(config, plugins), indent=2) + "\n")
    _write(path / METRICS, json.dumps(dict(metrics), indent=2) + "\n")
    _write(path / CARD, model_card(config, graph, metrics))
    return path


def read_weights(path: Path, graph: Graph) -> None:
    """Load the weights of a saved model into its graph.

    Raises:
        FusionError: the file is damaged; a tensor is missing, left over or of another shape.
    """
    try:
        load_model(graph, str(path / WEIGHTS), strict=True)
    except (RuntimeError, OSError, SafetensorError) as error:
        raise FusionError(
            "the saved weights do not fit the graph of the saved config",
            where=str(path),
            actual=textwrap.shorten(str(error), 500),
            fix="install the versions in plugins.json",
        ) from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FusionError(f"{file} cannot be read", expected="JSON", actual=str(error)) from error
    if not isinstance(values, dict):
        raise FusionError(f"{file} is damaged", expected="a JSON object", actual=type(values).__name__)
    return values


def read_metrics(path: Path) -> dict[str, Any]:
    """Read the figures of a saved model; none where it has no such file."""
    return _read_json(path / METRICS) if (path / METRICS).exists() else {}


def check_plugins(path: Path, plugins: Plugins) -> None:
    """Check that every plugin a saved model needs is here.

    Raises:
        PluginError: one is missing or broken; the message names the distribution to install.
    """
    file = path / PLUGINS
    if not file.exists():
        raise FusionError(
            f"{path} is no saved model",
            expected=f"a folder with {CONFIG}, {WEIGHTS} and {PLUGINS}",
            fix="check the path",
        )
    loaded = {info.name: info for info in plugins.infos if info.state == "loaded"}
    for name, saved in _read_json(file).items():
        if name in loaded:
            continue
        distribution = saved["distribution"]
        absent = plugins.registry.absent.get(name)
        fix = (
            f"pip install {distribution}=={saved['version']}"
            if distribution
            else f"give its file: --plugin {saved['origin']}, or Engine(plugins=[{saved['origin']!r}]) in Python"
        )
        raise PluginError(
            f"the model needs the plugin {name!r}, which is not loaded",
            where=str(path),
            expected=", ".join(saved["components"]),
            actual=str(absent) if absent else None,
            fix=fix,
        )


def model_card(config: RunConfig, graph: Graph, metrics: Mapping[str, Any]) -> str:
    """Describe a model in Markdown: parts, stages, figures, how to load it."""
    rows = [f"| {name} | {use} | {source} | {size:,} |" for name, use, source, size in graph.summary()]
    stages = [
        f"- {s.name}: {s.epochs or s.steps} {'epochs' if s.epochs else 'steps'} of {', '.join(s.losses)}"
        for s in config.stages
    ]
    figures = [f"- {name}: {value}" for name, value in metrics.items() if isinstance(value, int | float | str)]
    return "\n".join(
        [
            f"# {config.name}",
            "",
            f"A fusion_engine model of {', '.join(graph.modalities)}.",
            "",
            "    from fusion_engine import Engine",
            '    model = Engine().load("<this folder>")',
            "",
            "| node | component | from | parameters |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            "Training:",
            "",
            *(stages or ["- none"]),
            "",
            "Figures:",
            "",
            *(figures or ["- none recorded"]),
            "",
        ]
    )
