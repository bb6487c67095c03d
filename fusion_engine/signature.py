"""A component's config: the keyword-only parameters of its constructor, as a strict pydantic model.

``def __init__(self, inputs, *, width: Annotated[int, Field(ge=1)] = 128)`` takes the config ``{width: 128}``.
"""

import inspect
import json
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import ErrorDetails, to_jsonable_python

from fusion_engine.errors import ConfigError, PluginError, nearest

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


@cache
def config_model(target: Callable[..., Any]) -> type[BaseModel]:
    """Build the model of a class's or function's config; ``**options`` adds nothing to it.

    Raises:
        PluginError: a keyword-only parameter without a type hint, with one that no JSON fits, with a name that
            pydantic keeps for itself, or with a default that breaks its own hint.
    """
    function: Any = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    where = f"{target.__module__}:{target.__qualname__}"
    parameters = inspect.signature(function).parameters.values()
    keywords = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    hints = _hints(function, list(keywords), where)
    fields: dict[str, Any] = {
        name: (hints[name], ... if default is inspect.Parameter.empty else default)
        for name, default in keywords.items()
    }
    try:
        model: type[BaseModel] = create_model(
            target.__qualname__, __config__=_STRICT, __module__=target.__module__, **fields
        )
    except PydanticUserError as error:
        problem = "keyword-only parameters are config, and JSON fits no such type"
        raise PluginError(
            problem, where=where, actual=str(error).splitlines()[0], fix="make wiring positional"
        ) from error
    _check_defaults(model, where)
    return model


def _hints(function: Any, names: list[str], where: str) -> dict[str, Any]:
    """Evaluate the hints of the given parameters alone: those of wiring may be strings that nothing can read."""
    written = getattr(function, "__annotations__", {})
    for name in names:
        if name not in written:
            raise PluginError(
                f"keyword-only parameter {name!r} has no type hint", where=where, fix=f"write {name}: int, say"
            )
        if name.startswith("_") or name in dir(BaseModel):
            raise PluginError(f"keyword-only parameter {name!r} has a name that pydantic keeps for itself", where=where)
    wanted = SimpleNamespace(__annotations__={name: written[name] for name in names})
    try:
        return get_type_hints(wanted, globalns=getattr(function, "__globals__", {}), include_extras=True)
    except NameError as error:
        fix = "import the name at run time, not only under TYPE_CHECKING"
        raise PluginError("a type hint cannot be read", where=where, actual=str(error), fix=fix) from error


@cache
def _defaults(model: type[BaseModel]) -> str:
    """Give the defaults as JSON, to be read like any other value."""
    found = {name: to_jsonable_python(f.default) for name, f in model.model_fields.items() if not f.is_required()}
    return json.dumps(found, allow_nan=False)


def _check_defaults(model: type[BaseModel], where: str) -> None:
    try:
        model.model_validate_json(_defaults(model))
    except ValidationError as error:
        wrong = [e for e in error.errors() if e["type"] != "missing"]
        if wrong:
            told = "; ".join(f"{e['loc'][0]} = {e['input']!r}: {e['msg']}" for e in wrong)
            raise PluginError("a default breaks its own type hint", where=where, actual=told) from error
    except ValueError as error:
        raise PluginError("a default is not a plain value", where=where, actual=str(error)) from error


def validate_config(target: Callable[..., Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check a config and fill in the defaults; the result holds JSON's types alone.

    Lists do for tuples and whole numbers for floats; nothing else is converted.

    Args:
        target: the component's class or function.
        values: its config.
        where: the place to name in errors, such as ``node 'enc_image'``.

    Raises:
        ConfigError: unknown or missing keys, wrong types, out of range; all of them in one message.
    """
    return _validated(target, values, where).model_dump(mode="json")


def construct_kwargs(target: Callable[..., Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check a config and give the Python values (tuples, paths ...) to call the target with; raises like the above."""
    model = _validated(target, values, where)
    return {name: getattr(model, name) for name in type(model).model_fields}


def _validated(target: Callable[..., Any], values: Mapping[str, Any], where: str) -> BaseModel:
    model = config_model(target)
    keys = list(model.model_fields)
    foreign = {key: p for key in keys if key in values and (p := next(_not_json(values[key], key), None))}
    plain = {str(key): value if key in keys else None for key, value in values.items() if key not in foreign}
    problems = list(foreign.values())
    try:
        checked = model.model_validate_json(json.dumps({**json.loads(_defaults(model)), **plain}, default=dict))
    except ValidationError as error:
        told = [e for e in error.errors() if not (e["type"] == "missing" and e["loc"][0] in foreign)]
        problems += _problems(told, plain, keys)
    if problems:
        raise _config_error(problems, where)
    return checked


Problem = tuple[str, str | None, str | None]
"""What is wrong, what was expected, what was found."""


def _not_json(value: Any, path: str) -> Iterator[Problem]:
    """Find what JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{path} is not a finite number", "a finite number", str(value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                yield f"{path} has a key that is no text", "text", _show(key)
            yield from _not_json(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _not_json(inner, f"{path}[{i}]")
    elif value is not None and not isinstance(value, str | int | float):
        yield f"{path} is not a plain value", "text, a number, a truth value, a list or a mapping", _show(value)


def _problems(errors: list[ErrorDetails], values: Mapping[str, Any], keys: list[str]) -> list[Problem]:
    """Put pydantic's errors into our words; those of a union's members become one."""
    problems: list[Problem] = []
    wrong: dict[tuple[str, str], list[str]] = {}
    for error in errors:
        path, kind = _path(error, values), error["type"]
        if kind == "missing":
            problems.append((f"{path} is required", None, None))
        elif kind == "extra_forbidden" and len(error["loc"]) == 1:
            problems.append((f"unknown key {path!r}: {nearest(path, keys)}", None, None))
        else:
            wrong.setdefault((path, _show(error["input"])), []).append(error["msg"].removeprefix("Input should be "))
    return problems + [
        (f"{path} is wrong", " or ".join(expected), actual) for (path, actual), expected in wrong.items()
    ]


def _path(error: ErrorDetails, values: Any) -> str:
    """Write where the error is, without the names that pydantic gives to the members of a union."""
    path = ""
    for part in error["loc"]:
        inside = isinstance(part, int) and isinstance(values, list | tuple) and part < len(values)
        if inside or (isinstance(values, Mapping) and part in values):
            values = values[part]
        elif error["type"] != "missing" or part != error["loc"][-1]:
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


def _show(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"


def _config_error(problems: list[Problem], where: str) -> ConfigError:
    if len(problems) == 1:
        problem, expected, actual = problems[0]
        return ConfigError(problem, where=where, expected=expected, actual=actual)
    lines = [
        problem + (f": expected {expected}, found {actual}" if expected else "")
        for problem, expected, actual in problems
    ]
    return ConfigError("\n".join([f"{len(lines)} keys are wrong", *(f"  - {line}" for line in lines)]), where=where)
