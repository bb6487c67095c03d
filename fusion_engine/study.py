"""Several configs under one protocol: the same seeds, data and judges; mean and deviation of every figure."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console

from fusion_engine.config import RunConfig, override, read_config
from fusion_engine.engine import Engine
from fusion_engine.environment import commit
from fusion_engine.errors import ConfigError
from fusion_engine.judging import Judge, PrepareTest, check_label, kept_judges
from fusion_engine.predicting import all_figures
from fusion_engine.report.tables import read_csv, write_csv
from fusion_engine.signature import config_model

Settings = Callable[[int], Sequence[str]]
"""Settings ``key.key=value`` by seed."""
FIGURES, RUNS, JUDGES = "figures.csv", "runs", "judges"
"""What a study's folder holds: all figures; those of each run; the judges of each seed."""


def study(
    engine: Engine,
    variants: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    folder: Path,
    *,
    each: Settings | None = None,
    console: Console | None = None,
) -> list[dict[str, Any]]:
    """Train every variant with every seed, judge all variants of a seed by the same judges, and write the tables.

    A seed sets ``train.seed`` and, where the data set has one, ``data.with.seed``. ``folder`` gets ``figures.csv``,
    written after each run, with variant, seed, a hash of the config, steps, seconds, commit and number of parameters;
    and ``figures.md``, means and deviations. Runs that the folder already holds are not repeated, and a seed's judges
    are kept in it, so that several processes may share a folder, each with seeds or variants of its own.

    Args:
        engine: with the plugins that the configs need.
        variants: configs by name, with the same modalities, data and evaluation.
        seeds: of training and of the data set.
        folder: where to write.
        each: further settings by seed, as ``override`` takes them: another fold, say.
        console: to say what is done.

    Raises:
        ConfigError: there is no variant, one has no data or no evaluation, they differ in modalities, or the folder
            holds figures of another config under the same name.
        KeyboardInterrupt: a run was interrupted; it is not in the tables, and a further call repeats it.
    """
    show = console or Console(quiet=True)
    rows = _done(folder)
    for seed in seeds:
        changed = {name: override(config, each(seed) if each else []) for name, config in variants.items()}
        configs = {name: _seeded(engine, config, seed) for name, config in changed.items()}
        _check(configs)
        folder.mkdir(parents=True, exist_ok=True)
        judges: dict[str, Judge] = {}
        for name, config in configs.items():
            rows = _done(folder)
            done = {row.get("config") for row in rows if row["variant"] == name and row["seed"] == seed}
            if done == {digest(config)}:
                continue
            if done:
                fix = "write to another folder, or remove the old one"
                raise ConfigError(f"{folder} holds figures of another config as {name!r}, seed {seed}", fix=fix)
            found = _run(engine, name, config, judges, folder)
            (folder / RUNS).mkdir(exist_ok=True)
            write_csv(found, folder / RUNS / f"{_hash(f'{name} {digest(config)}')}.csv")
            rows = _written(folder)
            show.print(f"{name}, seed {seed}: {found[0]['steps']} steps, {found[0]['seconds']:.0f} s", highlight=False)
    return _written(folder) if rows else rows


def _written(folder: Path) -> list[dict[str, Any]]:
    """Write the tables of all that the folder holds."""
    rows = _done(folder)
    write_csv(rows, folder / FIGURES)
    (folder / "figures.md").write_text(as_markdown(rows), encoding="utf-8")
    return rows


def _done(folder: Path) -> list[dict[str, Any]]:
    """Read what the folder holds: its figures, and runs of other processes that are not among them yet."""
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for path in (folder / FIGURES, *sorted((folder / RUNS).glob("*.csv"))):
        found: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for row in read_csv(path) if path.exists() else []:
            row["variant"] = str(row["variant"])
            found.setdefault((row["variant"], row["seed"]), []).append(row)
        runs |= {run: rows for run, rows in found.items() if run not in runs}
    return [row for run in runs.values() for row in run]


def _seeded(engine: Engine, config: Mapping[str, Any], seed: int) -> RunConfig:
    plain = read_config(config).plain()
    plain.setdefault("train", {})["seed"] = seed
    if "data" in plain:
        dataset = engine.registry.resolve(plain["data"]["use"], "dataset").load()
        if "seed" in config_model(dataset).model_fields:
            plain["data"].setdefault("with", {})["seed"] = seed
    return read_config(plain)


def _check(configs: Mapping[str, RunConfig]) -> None:
    if not configs:
        raise ConfigError("there is nothing to compare", expected="at least one variant")
    first = next(iter(configs.values()))
    for name, config in configs.items():
        if config.evaluation is None or config.data is None:
            absent = [section for section in ("data", "evaluation") if getattr(config, section) is None]
            raise ConfigError(
                f"the variant {name!r} cannot be judged",
                expected="the sections 'data' and 'evaluation'",
                actual=f"no {' and no '.join(absent)}",
                fix="add them, such as evaluation: {label: label} with a column of the data",
            )
        for section in ("modalities", "data", "evaluation"):
            if getattr(config, section) != getattr(first, section):
                fix = "compare variants on one data set, by the same judges"
                raise ConfigError(f"the variant {name!r} differs from the first in {section!r}", fix=fix)


def _run(engine: Engine, name: str, config: RunConfig, judges: dict[str, Judge], folder: Path) -> list[dict[str, Any]]:
    code = commit()  # noted before hours of training, in which the files may change
    model = engine.build(config)
    data, settings = engine.dataset(config), config.evaluation
    assert settings is not None
    check_label(model, data.train, data.test, settings)
    started = time.monotonic()
    model.fit(data.train, callbacks=[PrepareTest(model, data.test)])
    if model.metrics["interrupted"]:
        raise KeyboardInterrupt
    seconds = round(time.monotonic() - started, 1)
    if not judges:
        what = {key: config.plain()[key] for key in ("modalities", "data", "evaluation")}
        kept = folder / JUDGES / _hash(json.dumps(what, sort_keys=True))
        judges |= kept_judges(engine, model, data.train, settings, data.labels, folder=kept)
    run: dict[str, Any] = {"variant": name, "seed": config.train.seed, "config": digest(config)}
    run |= {"steps": model.progress.step, "seconds": seconds, "commit": code}
    run["parameters"] = sum(p.numel() for p in model.graph.parameters())
    return [run | figure.as_dict() for figure in all_figures(model, judges, data.train, data.test, settings)]


def digest(config: RunConfig) -> str:
    """Name a config: a hash of all it says."""
    return "c" + _hash(json.dumps(config.plain(), sort_keys=True))


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay a study out: a line a figure, a column a variant, mean and deviation over the seeds.

    A distance has a second line, less its floor.
    """
    rows = [line for row in rows for line in _less_floor(row)]
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    names = list(dict.fromkeys(row["name"] for row in rows))
    lines = ["| figure | " + " | ".join([*variants, "real data", "chance"]) + " |", "|---" * (len(variants) + 3) + "|"]
    for name in names:
        found = [row for row in rows if row["name"] == name]
        cells = [spread([row["value"] for row in found if row["variant"] == v]) for v in variants]
        cells += [
            spread([row[key] for row in found if key in row and row[key] is not None]) for key in ("real", "chance")
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _less_floor(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    kind, _, modality = row["name"].partition(": ")
    if kind != "Fréchet distance":
        return [row]
    return [row, {**row, "name": f"{kind} less floor: {modality}", "value": row["value"] - row["real"], "real": 0.0}]


def spread(values: Sequence[float]) -> str:
    """Write mean and deviation."""
    if not values:
        return ""
    mean = f"{fmean(values):.3f}" if abs(fmean(values)) < 10 else f"{fmean(values):.1f}"
    return f"{mean} ± {stdev(values):.3f}" if len(values) > 1 else mean
