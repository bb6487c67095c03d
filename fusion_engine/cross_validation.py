"""Cross-validation of a config's predictions: a fresh model a fold, tested on rows that it has not seen.

Rows that belong together, such as all of one speaker, stay on one side. The splits are scikit-learn's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold

from fusion_engine.config import RunConfig, read_config
from fusion_engine.data import Table
from fusion_engine.engine import Engine, Source
from fusion_engine.environment import commit
from fusion_engine.errors import ConfigError, DataError, nearest
from fusion_engine.judging import PrepareTest, predicting_heads
from fusion_engine.predicting import prediction_figures
from fusion_engine.report.tables import write_csv
from fusion_engine.signature import config_model
from fusion_engine.study import spread

Split = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Indices of the rows to learn from, and of those to test on."""


@dataclass(frozen=True)
class CrossValidation:
    """What was found.

    Args:
        rows: one a fold and figure: ``fold``, ``tested`` (how many rows, or the group that was held out), ``seed``,
            ``commit``, ``name``, ``value`` and ``chance``.
    """

    rows: Sequence[Mapping[str, Any]]

    @property
    def folds(self) -> list[int]:
        """The numbers of the folds."""
        return list(dict.fromkeys(row["fold"] for row in self.rows))

    @property
    def summary(self) -> list[dict[str, Any]]:
        """Mean and deviation (of a sample; 0 of one fold) of every figure, and how many folds have it."""
        names = dict.fromkeys(row["name"] for row in self.rows)
        return [self._summed(name) for name in names]

    def _summed(self, name: str) -> dict[str, Any]:
        values = self._of(name)
        deviation = stdev(values) if len(values) > 1 else 0.0
        return {"name": name, "mean": fmean(values), "deviation": deviation, "folds": len(values)}

    def _of(self, name: str, key: str = "value") -> list[float]:
        return [row[key] for row in self.rows if row["name"] == name and row[key] is not None]

    def as_csv_rows(self) -> list[dict[str, Any]]:
        """The rows, and behind them each figure's mean and deviation as two more folds of these names."""
        return [
            *map(dict, self.rows),
            *({"fold": key, "name": s["name"], "value": s[key]} for key in ("mean", "deviation") for s in self.summary),
        ]

    def as_markdown(self) -> str:
        """Lay it out: a line a figure, mean and deviation, chance, a column a fold."""
        titles = {row["fold"]: f"fold {row['fold']} ({row['tested']})" for row in self.rows}
        head = ["figure", "mean ± deviation", "chance", *titles.values()]
        lines = [head, ["---"] * len(head)]
        values = {(row["name"], row["fold"]): row["value"] for row in self.rows}
        for name in dict.fromkeys(row["name"] for row in self.rows):
            cells = [f"{values[name, k]:.3f}" if (name, k) in values else "" for k in titles]
            lines.append([name, spread(self._of(name)), spread(self._of(name, "chance")), *cells])
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cross_validate(
    engine: Engine,
    config: Source,
    rows: Any,
    *,
    folds: int | None = 5,
    groups: str | Sequence[Any] | None = None,
    stratify: str | None = None,
    seed: int = 0,
    reseed: bool = False,
    done: Callable[[Sequence[Mapping[str, Any]]], None] | None = None,
) -> CrossValidation:
    """Train a fresh model a fold and score its predictions on the fold's rows.

    Args:
        engine: with the plugins that the config needs.
        config: of a model with a predicting head.
        rows: a table, as ``FusionModel.fit`` takes; all of it is split.
        folds: how many; None holds out one group after the other.
        groups: a column of the rows, or a value a row: rows of one group are never on both sides.
        stratify: a column whose classes all folds have in like shares. Rows that lack it are only learned from.
        seed: of the split; it shuffles rows, and groups only where ``stratify`` is given too.
        reseed: train fold i with the config's seed + i; else every fold with the config's seed.
        done: told each fold's rows when it is finished.

    Raises:
        ConfigError: the model predicts nothing, or the options do not fit together.
        DataError: there is no such column, a row has no group, there are too few rows, groups or members of a class, or
            a fold is to be tested on a class that its training rows lack.
        KeyboardInterrupt: a fold was interrupted.
    """
    plain, table = read_config(config), Table(rows)
    if not predicting_heads(engine.build(plain)):
        raise ConfigError("the model has no head that predicts", fix="such as {use: head/classification, out: label}")
    belongs = _groups(table, groups)
    found: list[dict[str, Any]] = []
    for fold, (train, test) in enumerate(_splits(table, folds, belongs, stratify, seed)):
        chosen = plain.train.seed + (fold if reseed else 0)
        told = {"fold": fold, "tested": _tested(test, belongs), "seed": chosen, "commit": commit()}
        figures = _fold(engine, _seeded(plain, chosen), [table[int(i)] for i in train], [table[int(i)] for i in test])
        found += [told | figure for figure in figures]
        if done is not None:
            done(found[len(found) - len(figures) :])
    return CrossValidation(found)


def _fold(engine: Engine, config: RunConfig, train: Sequence[Any], test: Sequence[Any]) -> list[dict[str, Any]]:
    model = engine.build(config)
    model.fit(train, callbacks=[PrepareTest(model, test)])
    if model.metrics["interrupted"]:
        raise KeyboardInterrupt
    return [{"name": f.name, "value": f.value, "chance": f.chance} for f in prediction_figures(model, test)]


def _seeded(config: RunConfig, seed: int) -> RunConfig:
    return config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})


def _tested(test: NDArray[np.int64], groups: NDArray[Any] | None) -> str:
    held_out = [] if groups is None else sorted(set(groups[test].tolist()))
    return held_out[0] if len(held_out) == 1 else f"{len(test)} rows"


def _column(table: Table, name: str) -> list[Any]:
    found = [table[i].get(name) for i in range(len(table))]
    if all(raw is None for raw in found):
        raise DataError(
            f"the data has no column {name!r}", actual=", ".join(table.names), fix=nearest(name, table.names)
        )
    return found


def _groups(table: Table, groups: str | Sequence[Any] | None) -> NDArray[Any] | None:
    """Return the name of each row's group.

    Raises:
        DataError: one has none.
    """
    if groups is None:
        return None
    values = _column(table, groups) if isinstance(groups, str) else list(groups)
    if len(values) != len(table):
        raise DataError("a group a row is needed", expected=str(len(table)), actual=str(len(values)))
    if None in values:
        raise DataError("a row has no group", where=f"row {values.index(None)}", fix="leave such rows out")
    return np.array([str(value) for value in values])


def _splits(
    table: Table, folds: int | None, groups: NDArray[Any] | None, stratify: str | None, seed: int
) -> Iterator[Split]:
    """Split the rows that have what is stratified by; the others are learned from, unless their group is held out."""
    labels = None if stratify is None else _column(table, stratify)
    usable = np.array([i for i in range(len(table)) if labels is None or labels[i] is not None])
    classes = np.zeros(len(usable)) if labels is None else np.array([str(labels[i]) for i in usable])
    belongs = None if groups is None else groups[usable]
    _check(folds, classes, belongs, stratify)
    others = np.setdiff1d(np.arange(len(table)), usable)
    for train, test in _splitter(folds, groups is not None, stratify is not None, seed).split(usable, classes, belongs):
        free = others if groups is None else others[~np.isin(groups[others], groups[usable[test]])]
        yield np.sort(np.concatenate([usable[train], free])), usable[test]


def _splitter(folds: int | None, grouped: bool, stratified: bool, seed: int) -> Any:
    if folds is None:
        return LeaveOneGroupOut()
    if grouped and not stratified:
        return GroupKFold(folds)
    kind = StratifiedGroupKFold if grouped else StratifiedKFold if stratified else KFold
    return kind(folds, shuffle=True, random_state=seed)


def _check(folds: int | None, classes: NDArray[Any], groups: NDArray[Any] | None, stratify: str | None) -> None:
    """Say in words what scikit-learn would warn of or refuse."""
    if folds is None and (groups is None or stratify is not None):
        fix = "name a column of groups, and stratify by nothing"
        raise ConfigError("only groups can be held out one after the other", fix=fix)
    if folds is not None and folds < 2:
        raise ConfigError("cross-validation has two folds or more", actual=str(folds))
    wanted = folds or 2
    units, what = (len(classes), "rows") if groups is None else (len(set(groups.tolist())), "groups")
    if units < wanted:
        raise DataError(f"there are too few {what} for the folds", expected=f"{wanted} or more", actual=str(units))
    if stratify is not None:
        names, counts = np.unique(classes, return_counts=True)
        if counts.min() < wanted:
            rare = f"{counts.min()} of {names[counts.argmin()]}"
            fix = "lower the number of folds, or do not stratify"
            raise DataError(f"a class of {stratify!r} has fewer rows than there are folds", actual=rare, fix=fix)


def cross_validate_config(
    engine: Engine,
    config: RunConfig,
    folder: Path,
    *,
    folds: int | None = 5,
    group: str | None = None,
    stratify: str | None = None,
    console: Console | None = None,
) -> CrossValidation:
    """Cross-validate a config on all rows of its data set; write ``cross_validation.csv`` and ``cross_validation.md``.

    The rows of all splits are pooled and split anew. A data set that hands out a column when asked by its option
    ``group`` is asked for it.

    Raises:
        FusionError: as ``cross_validate``, or the config has no data.
    """
    show = console or Console(quiet=True)
    config = _asking(engine, config, group)
    data = engine.dataset(config)
    rows = [*data.train, *data.validation, *data.test]
    folder.mkdir(parents=True, exist_ok=True)

    def told(found: Sequence[Mapping[str, Any]]) -> None:
        first = f"{found[0]['name']} {found[0]['value']:.3f}" if found else "nothing to score"
        show.print(f"fold {found[0]['fold'] if found else ''}: {first}", highlight=False)

    found = cross_validate(engine, config, rows, folds=folds, groups=group, stratify=stratify, done=told)
    write_csv(found.as_csv_rows(), folder / "cross_validation.csv")
    (folder / "cross_validation.md").write_text(found.as_markdown(), encoding="utf-8")
    for line in found.summary:
        show.print(f"{line['name']}: {line['mean']:.3f} ± {line['deviation']:.3f}", highlight=False)
    show.print(f"[bold]cross-validation[/]: {folder / 'cross_validation.md'}", highlight=False)
    return found


def _asking(engine: Engine, config: RunConfig, group: str | None) -> RunConfig:
    plain = config.plain()
    if group is None or "data" not in plain:
        return config
    options = plain["data"].setdefault("with", {})
    known = config_model(engine.registry.resolve(plain["data"]["use"], "dataset").load()).model_fields
    if "group" not in known or options.get("group") is not None or group in options.get("modalities", ()):
        return config
    return read_config(plain | {"data": plain["data"] | {"with": options | {"group": group}}})
