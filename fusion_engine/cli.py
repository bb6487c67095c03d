"""The command line. Commands import what they need when they run: ``--help`` is instant."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fusion_engine.errors import FusionError
from fusion_engine.plugins import Plugins

if TYPE_CHECKING:
    from fusion_engine.engine import Engine
    from fusion_engine.model import FusionModel

app = typer.Typer(
    help="Train, use and inspect multimodal fusion models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console, errors = Console(), Console(stderr=True)

Plugin = Annotated[list[Path] | None, typer.Option("--plugin", help="A .py file of plugins; may be given again.")]
ConfigFile = Annotated[Path, typer.Argument(help="A run config, YAML.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="key.key=value changes the config, such as data.with.path=my.npz.")
]
ModelFolder = Annotated[Path, typer.Argument(help="A saved model's folder.")]


def _engine(plugins: Sequence[Path] | None) -> "Engine":
    from fusion_engine.engine import Engine

    return Engine(plugins=list(plugins or []))


def _check_plugins(folder: Path, engine: "Engine") -> None:
    """Tell of a plugin that a saved model was made with and that is not here, such as a file of plugins."""
    if (folder / "plugins.json").exists():
        from fusion_engine.artefact import check_plugins

        check_plugins(folder, engine.plugins)


def _load(folder: Path, plugins: Sequence[Path] | None) -> "FusionModel":
    engine = _engine(plugins)
    inner = folder / "model"
    return engine.load(inner if inner.is_dir() else folder)


@app.command()
def train(
    config: ConfigFile,
    out: Annotated[Path | None, typer.Option(help="Where to write; default runs/<name of the config>.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint there.")] = False,
    settings: Settings = None,
    plugin: Plugin = None,
) -> None:
    """Train a model; with an 'evaluation' section also judge it and draw what it makes."""
    from fusion_engine.config import override, read_yaml

    engine = _engine(plugin)
    source = override(read_yaml(config), settings) if settings else config
    engine.check(source)  # a wrong wiring is refused before torch takes its seconds to import

    from fusion_engine.experiment import run_experiment

    run_experiment(engine, source, out, resume=resume, console=console)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder of a run; with --folds also a run config.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to write; default the run, or RUN/evaluated with --set.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=0, help="Cross-validate: so many new models; 0 for one a group.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="With --folds: a column, whose rows stay together.")] = None,
    stratify: Annotated[str | None, typer.Option(help="With --folds: a column of classes, alike in all folds.")] = None,
    settings: Settings = None,
    plugin: Plugin = None,
) -> None:
    """Judge a trained run again, by its config's 'evaluation': figures, report, samples. Or cross-validate."""
    if folds is not None:
        _cross_validate(run, out, folds or None, group, stratify, settings or [], plugin)
        return
    if group or stratify:
        raise FusionError("--group and --stratify say how to cross-validate", fix="add --folds 5")
    if run.is_file():
        raise FusionError(
            "a config alone has no trained model to judge",
            expected="the folder of a run",
            actual=f"the file {run}",
            fix=f"fusion-engine train {run} first, which judges too; or add --folds 5 to cross-validate new models",
        )

    from fusion_engine.experiment import evaluate_run

    evaluate_run(_engine(plugin), run, out, settings=settings or [], console=console)


def _cross_validate(
    source: Path,
    out: Path | None,
    folds: int | None,
    group: str | None,
    stratify: str | None,
    settings: Sequence[str],
    plugins: Sequence[Path] | None,
) -> None:
    from fusion_engine.config import override, read_config, read_yaml

    inner = [p for p in (source / "model" / "config.yaml", source / "config.yaml") if p.exists()]
    path = inner[0] if source.is_dir() and inner else source
    config, engine = read_config(override(read_yaml(path), settings)), _engine(plugins)
    _check_plugins(path.parent, engine)
    engine.check(config)

    from fusion_engine.cross_validation import cross_validate_config

    folder = out or (source if source.is_dir() else Path("runs") / config.name)
    cross_validate_config(engine, config, folder, folds=folds, group=group, stratify=stratify, console=console)


@app.command()
def compare(
    config: ConfigFile,
    node: Annotated[str, typer.Option(help="The fusion whose place all others take.")] = "fused",
    only: Annotated[list[str] | None, typer.Option(help="Which: sum, 'mf*', '* alone'. May be repeated.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many, from 0 on.")] = 5,
    each: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE by seed: data.with.fold={seed}. May be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; default runs/<name of the config>.")] = None,
    settings: Settings = None,
    plugin: Plugin = None,
) -> None:
    """Train every fusion in one place of a graph, and each of its inputs alone: a table and a plot."""
    from fusion_engine.config import override, read_config, read_yaml

    engine, source = _engine(plugin), read_config(override(read_yaml(config), settings or []))
    engine.check(source)

    from fusion_engine.comparison import compare as run

    def by_seed(seed: int) -> list[str]:
        return [setting.replace("{seed}", str(seed)) for setting in each or []]

    folder = out or Path("runs") / source.name
    run(engine, source, range(seeds), folder, node=node, only=only or ["*"], each=by_seed, console=console)
    console.print((folder / "comparison.md").read_text(encoding="utf-8"), highlight=False, soft_wrap=True)


@app.command()
def generate(
    model: ModelFolder,
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="How many rows.")] = 16,
    out: Annotated[Path, typer.Option(help="Folder for the samples.")] = Path("generated"),
    prior: Annotated[str | None, typer.Option(help="A fitted prior's node, or 'training'.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    plugin: Plugin = None,
) -> None:
    """Generate rows of every modality that has a decoder."""
    from fusion_engine.report.samples import write_signals

    loaded = _load(model, plugin)
    signals = loaded.generated_signals(n, prior=prior, seed=seed)
    _said(write_signals(loaded, signals, out))


@app.command()
def translate(
    model: ModelFolder,
    given: Annotated[list[str], typer.Option("--given", help="modality=file or modality=text; may be given again.")],
    to: Annotated[list[str], typer.Option("--to", help="A modality to translate into; may be given again.")],
    out: Annotated[Path, typer.Option(help="Folder for the samples.")] = Path("translated"),
    plugin: Plugin = None,
) -> None:
    """Translate one row of some modalities into others."""
    from fusion_engine.report.samples import read_sample, write_signals

    pairs = [item.partition("=") for item in given]
    wrong = [item for item, (_, equals, _) in zip(given, pairs, strict=True) if not equals]
    if wrong:
        raise FusionError(
            "a given sample is modality=file or modality=text", actual=wrong[0], fix="such as --given image=seven.png"
        )
    loaded = _load(model, plugin)
    loaded.check_names({name: value for name, _, value in pairs})
    row = {name: read_sample(value, loaded.modalities[name]) for name, _, value in pairs}
    _said(write_signals(loaded, loaded.translated_signals([row], to), out))


def _said(paths: Sequence[Path]) -> None:
    folders = sorted({str(path.parent) for path in paths})
    console.print(f"wrote {len(paths)} files to {', '.join(folders)}", highlight=False)


@app.command()
def draw(
    source: Annotated[Path, typer.Argument(help="A run config, or a saved model's folder.")],
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As a Mermaid flowchart.")] = False,
    plugin: Plugin = None,
) -> None:
    """Draw the graph of a config or model."""
    from fusion_engine.report.drawing import as_mermaid, as_text

    inner = [p for p in (source / "model" / "config.yaml", source / "config.yaml") if p.exists()]
    engine, path = _engine(plugin), inner[0] if source.is_dir() and inner else source
    _check_plugins(path.parent, engine)
    wiring = engine.check(path)
    console.print(as_mermaid(wiring) if mermaid else as_text(wiring), highlight=False, markup=False, soft_wrap=True)


@app.command()
def plugins(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False, plugin: Plugin = None) -> None:
    """List plugins and components, with state, origin and, where one failed, the reason."""
    found = _engine(plugin).plugins
    infos = [info.as_dict() for info in found.infos]
    if as_json:
        typer.echo(json.dumps(infos, indent=2))
        return
    table = Table("plugin", "state", "origin", "components")
    for info in infos:
        origin = f"{info['distribution']} {info['version']}" if info["distribution"] else info["origin"]
        table.add_row(info["name"], info["state"], origin, info["reason"] or "\n".join(info["components"]))
    console.print(table)


@app.command()
def doctor(plugin: Plugin = None) -> None:
    """Check the environment: versions that work together, devices, plugins. Exit status 1 if something is wrong."""
    from fusion_engine.environment import check_environment

    checks = check_environment(_engine(plugin).plugins)
    for what, fine, remark in checks:
        console.print(f"{'[green]ok[/]  ' if fine else '[red]bad[/] '} {what}: {remark}", highlight=False)
    if not all(fine for _, fine, _ in checks):
        raise typer.Exit(1)


def _commands_of(found: Plugins) -> None:
    """Let plugins add commands; one that fails loses its own and no other."""
    found.call("register_commands", failed=_told, cli=app)


def _told(error: FusionError) -> None:
    errors.print(f"[red]{type(error).__name__}[/]", end=": ")
    errors.print(str(error), markup=False, highlight=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; what the user can mend ends in a message and status 2, without a traceback."""
    try:
        _commands_of(_engine(None).plugins)
        app(arguments, standalone_mode=True)
    except FusionError as error:
        _told(error)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        _told(FusionError(f"{error.filename}: {error.strerror}", fix="check the path"))
        sys.exit(2)


if __name__ == "__main__":
    main()
