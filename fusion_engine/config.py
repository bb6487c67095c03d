"""The run config: pydantic models, YAML 1.2 in and out. No torch, and reading one runs no code."""

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fusion_engine.errors import ConfigError, nearest

Player = Literal["generator", "discriminator"]
PLAYERS: tuple[Player, ...] = ("discriminator", "generator")
"""In the order of their turns."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Positive = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True, frozen=True)


class Part(_Strict):
    """A component by name, and its config."""

    use: str
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")


def _long(part: Any) -> Any:
    """Read a component's name alone as a part without config."""
    return {"use": part} if isinstance(part, str) else part


ShortPart = Annotated[Part, BeforeValidator(_long)]
"""A part, which may be written as the component's name alone."""


class NodeConfig(Part):
    """One node: its component, what is wired into its ports, and for decoders and predicting heads what comes out.

    ``of`` is for a prior: one that is fitted to the latents of one posterior (or of several together) after training,
    or one that trains with a posterior in place of its own prior.
    ``modality_dropout`` hides each input of a fusion, posterior or head in training with that probability, row by row.
    ``spectral_norm`` divides each of the node's weights by its largest singular value: a discriminator's, mostly.
    """

    in_: str | list[str] | dict[str, str | list[str]] | None = Field(default=None, alias="in")
    out: str | None = None
    of: str | list[str] | None = None
    modality_dropout: Annotated[float, Field(gt=0, lt=1)] | None = None
    spectral_norm: bool | None = None


class LossConfig(Part):
    """One loss: its component, its config, and which loss its weight is relative to.

    ``relative_to`` names another loss of the same stages: in every turn this one is multiplied by the ratio of the
    norms of both gradients at the decoders' last weights, so that a ``weight`` of 0.8 pulls 0.8 times as hard.
    """

    relative_to: str | None = None


ShortLoss = Annotated[LossConfig, BeforeValidator(_long)]
"""A loss, which may be written as the component's name alone."""


class UntilConfig(_Strict):
    """End a stage early: when ``metric`` has not improved by ``delta`` for ``patience`` epochs.

    A metric is a loss of the stage, or what ``train.monitor`` logs, such as ``monitor/distance``: games do not tell by
    their losses whether they have converged. Of the latter ``patience`` counts looks.
    """

    metric: str
    patience: Positive = 3
    delta: Annotated[float, Field(ge=0)] = 0.0


class StageConfig(_Strict):
    """A span of training: which losses are active, for how long, and which nodes learn (globs)."""

    name: Name
    epochs: Positive | None = None
    steps: Positive | None = None
    losses: Annotated[list[str], Field(min_length=1)]
    learn: list[str] = Field(default_factory=lambda: ["*"])
    until: UntilConfig | None = None


class OptimizerConfig(_Strict):
    """Adam (decoupled weight decay where it is not zero)."""

    lr: Annotated[float, Field(gt=0)] = 1e-3
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] = Field(
        default_factory=lambda: [0.9, 0.999]
    )
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class TurnsConfig(_Strict):
    """How many turns each player takes on one batch."""

    discriminator: Positive = 1
    generator: Positive = 1


class MonitorConfig(_Strict):
    """Watch what is generated during training, beside training rows, in the prepared values of each modality.

    Every ``every`` steps ``rows`` rows are generated. All is well where every modality covers at least ``coverage`` of
    what other real rows cover, and at most ``duplicates`` of its samples have a near-duplicate. When it was well and no
    longer is: ``warn``, ``stop`` (with a usable model), or ``roll_back`` to the weights that were last well, at half
    the learning rates, up to three times. What is not well after ``patience`` looks is said once.
    """

    every: Positive = 200
    rows: Annotated[int, Field(ge=32)] = 256
    coverage: Annotated[float, Field(ge=0, le=1)] = 0.2
    duplicates: Annotated[float, Field(ge=0, le=1)] = 0.5
    patience: Positive = 10
    action: Literal["warn", "stop", "roll_back"] = "warn"


MONITORED = {"coverage": 1, "duplicates": -1, "distance": -1}
"""What a monitor logs, as ``monitor/coverage``: 1 where more is better."""


def _default_optimizers() -> dict[Player, OptimizerConfig]:
    return {"generator": OptimizerConfig(), "discriminator": OptimizerConfig(lr=2e-4, betas=[0.0, 0.99])}


class TrainConfig(_Strict):
    """How to train.

    ``batch_size`` is the rows of one optimizer step, whatever the number of processes and of accumulation steps
    that share them. ``ema_half_life`` is in rows; 0 keeps no average. ``schedule`` scales the learning rates over
    the whole run, cosine down to a tenth. ``checkpoint_every`` is in steps.
    """

    batch_size: Positive = 128
    accumulate: Positive = 1
    optimizer: dict[Player, OptimizerConfig] = Field(default_factory=_default_optimizers)
    turns: TurnsConfig = Field(default_factory=TurnsConfig)
    schedule: Literal["constant", "cosine"] = "constant"
    clip: Annotated[float, Field(gt=0)] | None = None
    ema_half_life: Annotated[float, Field(ge=0)] = 0.0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    seed: Annotated[int, Field(ge=0)] = 0
    checkpoint_every: Positive = 200
    workers: Annotated[int, Field(ge=0)] = 0
    monitor: MonitorConfig | None = None


class NoiseConfig(_Strict):
    """How one modality gets worse: a corruption by its name (image, sound, sequence) and the levels to look at."""

    corrupt: str
    levels: Annotated[list[float], Field(min_length=2)]


class EvaluationConfig(_Strict):
    """How to judge what a trained model makes: by classifiers of ``label``, a column of the data set, one a modality.

    What its heads predict is held against the test rows, and needs no such judges. ``samples`` is how many rows are
    generated from each prior, ``epochs`` how long the judges are trained. ``noise`` names modalities whose corruption a
    head's predictions are followed over: the area under that curve is a figure.
    """

    label: Name
    samples: Annotated[int, Field(ge=100)] = 1000
    epochs: Positive = 30
    noise: dict[Name, NoiseConfig] = Field(default_factory=dict)


class RunConfig(_Strict):
    """A whole run: what is computed, what is minimised, when, on which data.

    A modality or loss without config may be written as the component's name alone: ``image: modality/image``.
    """

    fusion_graph: Literal[1] = 1
    name: str = "model"
    modalities: Annotated[dict[Name, ShortPart], Field(min_length=1)]
    nodes: Annotated[dict[Name, NodeConfig], Field(min_length=1)]
    losses: dict[Name, ShortLoss] = Field(default_factory=dict)
    stages: list[StageConfig] = Field(default_factory=list)
    players: dict[Player, list[str]] = Field(default_factory=dict)
    data: Part | None = None
    evaluation: EvaluationConfig | None = None
    train: TrainConfig = Field(default_factory=TrainConfig)

    def plain(self) -> dict[str, Any]:
        """Return it as the mapping that a YAML file holds, unset fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: 1e-3 is a number; only true and false are booleans, so that ``no`` is a word."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


_CORE = {
    "null": ("~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": ("true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": ("[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
}
"""By tag: what a plain scalar of it looks like, and the characters that it may begin with."""


def _resolve_core(resolver: Any) -> None:
    for tag, (pattern, first) in _CORE.items():
        resolver.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), first)


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    """Read an integer; a leading zero means nothing, and neither does a colon."""
    base = {"0o": 8, "0x": 16}.get(node.value[:2], 10)
    return int(node.value, base)


def _no_duplicate_keys(loader: yaml.SafeLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: list[Any] = []
    for key_node, _ in node.value:
        key, mark = loader.construct_object(key_node, deep=True), key_node.start_mark
        if key in seen:
            where = f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}"
            raise ConfigError(f"the key {key!r} stands twice", where=where, fix="rename or remove one")
        seen.append(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


_resolve_core(_Loader)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:map", _no_duplicate_keys)


def read_yaml(path: Path) -> Any:
    """Read one YAML file.

    Raises:
        ConfigError: it is missing or no YAML; the message has the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the file {path} cannot be read: {error.strerror}", fix="check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text", expected="YAML in UTF-8", actual=str(error)) from error
    try:
        return _parse(text, str(path))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML", actual=str(error)) from error


def _parse(text: str, name: str) -> Any:
    loader = _Loader(text)
    loader.name = name  # errors name the file
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def read_config(source: RunConfig | Mapping[str, Any] | str | Path) -> RunConfig:
    """Read and check the form of a run config given as a YAML file, a mapping or itself.

    Raises:
        ConfigError: every wrong key and value, each with its place.
    """
    if isinstance(source, RunConfig):
        return source
    where = str(source) if isinstance(source, str | Path) else "config"
    values = read_yaml(Path(source)) if isinstance(source, str | Path) else source
    if not isinstance(values, Mapping):
        raise ConfigError("a run config is a mapping", where=where, actual=type(values).__name__)
    try:
        return RunConfig.model_validate(dict(values))
    except ValidationError as error:
        told = [_explain(e, values) for e in error.errors()]
        raise ConfigError("the config is wrong:\n" + "\n".join(told), where=where) from None


def override(values: Any, settings: Sequence[str]) -> Any:
    """Return a config's mapping with some values set: ``data.with.path=digits.npz``, ``stages.0.epochs=5``.

    Args:
        values: as read from YAML; left as it is.
        settings: ``key.key=value`` each, the value as YAML; a number picks from a list.

    Raises:
        ConfigError: no ``=``, or a key on the way leads nowhere.
    """
    changed = copy.deepcopy(values)
    for section in ("modalities", "losses"):
        if isinstance(changed, dict) and isinstance(changed.get(section), dict):
            changed[section] = {name: _long(part) for name, part in changed[section].items()}
    for setting in settings:
        path, equals, value = setting.partition("=")
        *way, last = path.split(".")
        if not equals or not all((*way, last)):
            raise ConfigError("a setting is key.key=value", actual=setting, fix="such as data.with.seed=1")
        place = changed
        for key in way:
            if isinstance(place, dict) and place.get(key) is None:
                place[key] = {}
            place = place[key if isinstance(place, dict) else _index(place, key, setting)]
        place[last if isinstance(place, dict) else _index(place, last, setting)] = _parse(value, f"--set {path}")
    return changed


def _index(place: Any, key: str, setting: str) -> int:
    if not isinstance(place, list) or not key.isdecimal() or int(key) >= len(place):
        raise ConfigError(f"{key!r} of a setting leads nowhere", actual=setting, fix="check its keys")
    return int(key)


def _explain(error: Any, values: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in error["loc"] if part not in ("function-plain", "function-before", "[key]"))
    if error["loc"][0] == "stages" and len(error["loc"]) > 2:
        stage = values["stages"][error["loc"][1]]
        place += f" (stage {stage['name']!r})" if "name" in stage else ""
    if error["type"] == "extra_forbidden":
        return f"  - {place}: unknown key; {nearest(str(error['loc'][-1]), _keys_at(error['loc'][:-1]))}"
    if error["type"] == "missing":
        return f"  - {place}: is required"
    given, expected = repr(error["input"]), error["msg"]
    if error["type"] == "model_type":
        models: list[type[BaseModel]] = [RunConfig, NoiseConfig, *_SECTION.values()]
        model = next(m for m in models if m.__name__ == error["ctx"]["class_name"])
        expected = f"Input should be a mapping with {', '.join(_keys_of(model))}"
    elif error["type"] == "dict_type":
        expected = "Input should be a mapping"
    return f"  - {place}: {expected}; found {given if len(given) < 80 else given[:77] + '...'}"


_SECTION: dict[str, type[BaseModel]] = {
    "modalities": Part,
    "nodes": NodeConfig,
    "losses": LossConfig,
    "stages": StageConfig,
    "data": Part,
    "evaluation": EvaluationConfig,
    "train": TrainConfig,
    "optimizer": OptimizerConfig,
    "turns": TurnsConfig,
    "until": UntilConfig,
    "monitor": MonitorConfig,
}


def _keys_at(location: tuple[Any, ...]) -> list[str]:
    sections = [part for part in location if part in _SECTION]
    return _keys_of(_SECTION[sections[-1]] if sections else RunConfig)


def _keys_of(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


class _Dumper(yaml.SafeDumper):
    """Short lists and mappings on one line, as people write them."""


def _mapping(dumper: yaml.SafeDumper, data: dict[str, Any]) -> yaml.Node:
    flat = not any(isinstance(v, dict) and v for v in data.values()) and len(str(data)) < 90
    return dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=flat)


def _list(dumper: yaml.SafeDumper, data: list[Any]) -> yaml.Node:
    return dumper.represent_sequence(
        "tag:yaml.org,2002:seq", data, flow_style=not any(isinstance(v, dict) for v in data)
    )


_Dumper.yaml_implicit_resolvers = {first: [*rules] for first, rules in _Dumper.yaml_implicit_resolvers.items()}
_resolve_core(_Dumper)  # text that either version of YAML would read as something else is quoted
_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(list, _list)


def as_yaml(config: RunConfig) -> str:
    """Write a config as the text of a YAML file."""
    return yaml.dump(config.plain(), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def write_config(config: RunConfig, path: Path) -> None:
    """Write a config so that ``read_config`` returns the same."""
    path.write_text(as_yaml(config), encoding="utf-8")
