"""From a config to a run folder: train, save, judge, draw."""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from fusion_engine.components import Dataset
from fusion_engine.config import EvaluationConfig, override, read_config
from fusion_engine.engine import Engine
from fusion_engine.environment import commit
from fusion_engine.errors import ConfigError
from fusion_engine.judging import PrepareTest, check_label, train_judges
from fusion_engine.model import Context, FusionModel
from fusion_engine.predicting import all_figures
from fusion_engine.report import gallery
from fusion_engine.report.facts import run_facts
from fusion_engine.report.overview import overview
from fusion_engine.report.page import write_page
from fusion_engine.report.predictions import prediction_sections
from fusion_engine.report.progress import ProgressBars
from fusion_engine.report.samples import write_signals
from fusion_engine.report.tables import figures_table, read_csv, write_csv, write_json
from fusion_engine.training import Callback

JUDGED_BY = ("data", "evaluation")
"""The sections of a config that say how a trained model is judged."""
OF_TRAINING = ("steps", "seconds", "interrupted")
"""Metrics that judging leaves as they are."""
WIDE = 120
"""Columns of a terminal on which notes stand beside figures."""
SHOWN = 12
"""Samples a line in the picture, and written as files."""


def run_experiment(
    engine: Engine,
    source: Path | Mapping[str, Any],
    out: Path | None = None,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> FusionModel:
    """Build, train and save the model of a config; judge it and draw its samples where the config says how.

    The folder gets ``model/`` (the artefact), ``checkpoint.pt``, ``history.csv``, ``report.html`` and, with an
    ``evaluation`` section, ``figures.csv``, ``figures.json`` and, of a model that makes something, ``overview.png``
    and ``samples/``.

    Raises:
        FusionError: the config or the data is wrong.
    """
    commit()  # noted before hours of training, in which the files may change
    show = console or Console(quiet=True)
    config = read_config(source)
    folder = out or Path("runs") / config.name
    model = engine.build(config)
    data = engine.dataset(model.config)
    show.print(
        f"[bold]{model.config.name}[/]: {len(data.train)} rows, {len(model.graph.wiring.nodes)} nodes", highlight=False
    )
    callbacks: list[Callback] = [ProgressBars(show)]
    if model.config.evaluation is not None:
        check_label(model, data.train, data.test, model.config.evaluation)
        callbacks.append(PrepareTest(model, data.test))
    folder.mkdir(parents=True, exist_ok=True)  # what cannot be written to fails before training, not after
    started = time.monotonic()
    model.fit(data.train, directory=folder, resume=resume, callbacks=callbacks)
    model.metrics["seconds"] = round(time.monotonic() - started, 1)
    model.metrics["steps"] = model.progress.step
    model.save(folder / "model")
    write_csv(model.progress.history, folder / "history.csv")
    found: list[dict[str, Any]] = []
    try:
        if model.config.evaluation is not None:
            found = _judge(engine, model, data, model.config.evaluation, folder, show)
        _report(model, data, found, folder, show)
    except KeyboardInterrupt:
        show.print("[yellow]judging interrupted[/]: the model is kept, without figures or report")
    show.print(f"[bold]model[/]: {folder / 'model'}", highlight=False)
    return model


def evaluate_run(
    engine: Engine,
    folder: Path,
    out: Path | None = None,
    *,
    settings: Sequence[str] = (),
    console: Console | None = None,
) -> FusionModel:
    """Judge the model of a run's folder again, and write its figures, samples and report.

    Args:
        engine: with the plugins that the model needs.
        folder: of the run.
        out: where to write; the run's folder itself, or ``evaluated`` in it where settings differ from the run's.
        settings: changes of the sections ``data`` and ``evaluation``, such as ``data.with.path=other.npz`` or
            ``evaluation.samples=2000``.
        console: to show the figures on.

    Raises:
        FusionError: there is no model, its config has no data or no evaluation, or a setting is of another section.
    """
    for setting in settings:
        if re.split("[.=]", setting)[0] not in JUDGED_BY:
            fix = "train another model for what shapes it"
            raise ConfigError("a trained model is judged by other data or evaluation alone", actual=setting, fix=fix)
    model = engine.load(folder / "model")
    config = read_config(override(model.config.plain(), settings))
    if config.evaluation is None:
        fix = "add it: --set evaluation.label=label"
        raise ConfigError("the config has no 'evaluation' section, so nothing says how to judge", fix=fix)
    if (folder / "history.csv").exists():
        model.progress.history = read_csv(folder / "history.csv")
    model.config = config
    model.metrics = {key: value for key, value in model.metrics.items() if key in OF_TRAINING}
    data, show = engine.dataset(config), console or Console(quiet=True)
    target = out or (folder / "evaluated" if settings else folder)
    target.mkdir(parents=True, exist_ok=True)
    found = _judge(engine, model, data, config.evaluation, target, show)
    _report(model, data, found, target, show)
    return model


def _judge(
    engine: Engine,
    model: FusionModel,
    data: Dataset,
    settings: EvaluationConfig,
    folder: Path,
    show: Console,
) -> list[dict[str, Any]]:
    with show.status("training the judges, measuring"):
        found = measure(engine, model, data, settings)
        drawn = _drawn(model, data, folder)
    model.metrics |= {figure["name"]: round(figure["value"], 4) for figure in found}
    model.save(folder / "model")
    write_csv(found, folder / "figures.csv")
    write_json(found, folder / "figures.json")
    show.print(figures_table(found, notes=show.width >= WIDE))
    if drawn:
        show.print(drawn, highlight=False)
    return found


def _drawn(model: FusionModel, data: Dataset, folder: Path) -> str:
    """Draw what a model makes, and say where; a model that only predicts makes nothing."""
    if not gallery.decoded(model):
        return ""
    picture = overview(model, data.test, folder / "overview.png", columns=SHOWN)
    write_signals(model, gallery.generated(model, data.test, SHOWN), folder / "samples")
    return f"[bold]picture[/]: {picture}   [bold]samples[/]: {folder / 'samples'}"


def _report(
    model: FusionModel, data: Dataset, figures: Sequence[Mapping[str, Any]], folder: Path, show: Console
) -> None:
    """Write the page of a run: on its test rows, or on training rows where there are none."""
    context = Context(model.plugins, model.config)
    extra = model.plugins.call("report_sections", run_directory=folder, context=context)
    rows = data.test if len(data.test) else data.train
    own = prediction_sections(model, data.test) if figures else []
    sections = [*own, *(section for found in extra for section in found)]
    facts = run_facts(model, commit())
    page = write_page(folder, model, rows=rows, figures=figures, sections=sections, facts=facts)
    show.print(f"[bold]report[/]: {page}", highlight=False)


def measure(engine: Engine, model: FusionModel, data: Dataset, settings: EvaluationConfig) -> list[dict[str, Any]]:
    """Train the judges and measure a model on the test split: a row a figure, with seed, commit and seconds.

    Raises:
        DataError: there is nothing to judge by.
    """
    check_label(model, data.train, data.test, settings)
    judges = train_judges(engine, model, data.train, settings, data.labels)
    trained = {key: model.metrics.get(key) for key in ("steps", "seconds")}
    run = {"seed": model.config.train.seed, **trained, "commit": commit()}
    return [figure.as_dict() | run for figure in all_figures(model, judges, data.train, data.test, settings)]
