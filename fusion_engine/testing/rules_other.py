"""Rules of recipes, data sets, metrics and ensembles."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from fusion_engine.build import build, complete
from fusion_engine.components import CategoryModality
from fusion_engine.config import RunConfig, read_config
from fusion_engine.errors import ConfigError
from fusion_engine.signature import config_model, construct_kwargs
from fusion_engine.testing.observe import expect
from fusion_engine.testing.subject import Subject
from fusion_engine.wiring import match


def recipe_parts(subject: Subject, label: bool) -> dict[str, dict[str, Any]]:
    """Describe one registered modality, and a label beside it, as the engine describes them to a recipe."""
    parts: dict[str, dict[str, Any]] = {}
    for entry in subject.registry.of("modality"):
        kind = entry.load()
        nodes = {key: {"use": getattr(kind, key)} for key in ("encoder", "decoder")}
        name = "label" if issubclass(kind, CategoryModality) else "data"
        parts.setdefault(name, {"use": entry.full_name, "with": {}, **nodes})
    parts = {name: parts[name] for name in ("data", "label") if name in parts}
    expect(len(parts) == 2, "no modality, or no label, is registered to try it with", "give registry=")
    return parts if label else {"data": parts["data"]}


def _config(subject: Subject, label: bool) -> Mapping[str, Any]:
    options = construct_kwargs(subject.target, subject.config, subject.name)
    config = subject.target(recipe_parts(subject, label), **options)
    expect(isinstance(config, Mapping), f"it returns a {type(config).__name__}, not a config")
    return dict(config)


def _builds(subject: Subject, label: bool) -> None:
    config = complete(read_config(_config(subject, label)), subject.registry)
    graph = build(config, subject.registry)
    expect(bool(config.stages), "its config has no stages, so nothing is ever trained")
    for stage in config.stages:
        learn = match(stage.learn, graph.wiring.nodes, stage.name)
        players = {p for name in stage.losses for p in graph.loss(name).players}  # type: ignore[union-attr]
        owned = frozenset[str]().union(*(graph.owners(p) for p in players))
        learning = list(graph.parameters_of(learn & owned))
        expect(bool(learning), f"nothing learns in its stage {stage.name!r}")


def builds_one(subject: Subject) -> str | None:
    """Its config of one modality builds, probes and has something to learn in each stage, or it refuses in words."""
    try:
        _config(subject, False)
    except ConfigError as error:
        return f"it refuses a single modality: {error.problem}"
    _builds(subject, False)
    return None


def builds_two(subject: Subject) -> None:
    """Its config of two modalities, the second a label, builds, probes and has something to learn in each stage."""
    _builds(subject, True)


def recipe_round_trip(subject: Subject) -> None:
    """Its config is plain data: written as YAML and read again it is the same."""
    config = _config(subject, True)
    again = yaml.safe_load(yaml.safe_dump(config))
    expect(again == config, "its config changes when written as YAML and read", "return lists, mappings, plain values")
    checked = read_config(config)
    expect(RunConfig.model_validate(checked.plain()) == checked, "its config changes when read twice")


def splits(subject: Subject) -> None:
    """Train, validation and test are sequences of rows {modality: raw sample or None}, each with something in it."""
    data = subject.construct()
    expect(len(data.train) > 0, "there are no training rows")
    names = set(data.train[0])
    for split in ("train", "validation", "test"):
        rows = getattr(data, split)
        expect(isinstance(rows, Sequence), f"{split} is a {type(rows).__name__}", "return a sequence of mappings")
        for row in [rows[i] for i in range(min(50, len(rows)))]:
            expect(isinstance(row, Mapping), f"a row of {split} is a {type(row).__name__}", "return mappings")
            expect(set(row) <= names, f"a row of {split} has {sorted(set(row) - names)}, which the first one lacks")
            expect(any(raw is not None for raw in row.values()), f"a row of {split} has nothing at all")


def repeatable(subject: Subject) -> None:
    """Constructed twice, whatever the global random state, it has the same rows."""
    found = []
    for seed in (1, 2):
        np.random.seed(seed)  # it is this very state that must not matter
        data = subject.construct(seed=seed)
        found.append({s: [getattr(data, s)[i] for i in range(min(20, len(getattr(data, s))))] for s in _SPLITS})
        found[-1]["lengths"] = [len(getattr(data, s)) for s in _SPLITS]
    expect(_equal(*found), "its rows differ from one construction to the next", "key what is random by a seed")


_SPLITS = ("train", "validation", "test")


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping):
        return set(a) == set(b) and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
    return bool(a == b)


def constructs(subject: Subject) -> str | None:
    """It can be constructed with defaults alone, where it needs no others."""
    parameters = inspect.signature(subject.target).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if needed and not set(needed) <= set(config_model(subject.target).model_fields):
        return f"not constructed, as it needs {', '.join(needed)}"
    expect(inspect.isclass(subject.target) or callable(subject.target), "it is neither class nor function")
    if inspect.isclass(subject.target):
        subject.construct()
    return None
