"""A component's config, read from its constructor."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from fusion_engine.errors import ConfigError, PluginError
from fusion_engine.signature import config_model, construct_kwargs, validate_config

if TYPE_CHECKING:
    from nowhere import Unreadable


class Component:
    """Anything with a constructor; the hint of its wiring cannot be evaluated and need not be."""

    def __init__(
        self,
        wiring: "Unreadable",
        *,
        width: Annotated[int, Field(ge=1, le=512)] = 128,
        scale: float = 1.0,
        cell: Literal["gru", "lstm"] = "gru",
        channels: tuple[int, ...] = (8, 16),
        crop: tuple[int, int] | int | None = None,
        weights: Mapping[str, float] = {"image": 1.0},
        model: str = "resnet18",
        flag: bool = False,
    ) -> None:
        pass


DEFAULTS = {
    "width": 128,
    "scale": 1.0,
    "cell": "gru",
    "channels": [8, 16],
    "crop": None,
    "weights": {"image": 1.0},
    "model": "resnet18",
    "flag": False,
}


def test_defaults_are_filled_in_with_plain_values() -> None:
    assert validate_config(Component, {}, "node 'a'") == DEFAULTS
    assert issubclass(config_model(Component), BaseModel)
    assert config_model(Component) is config_model(Component)


def test_given_values_win_and_round_trip() -> None:
    given = {"width": 1, "scale": 3, "channels": [1], "crop": [4, 5], "weights": {"text": 2}, "flag": True}
    full = validate_config(Component, given, "node 'a'")
    assert full == {**DEFAULTS, **given}
    assert isinstance(full["scale"], float)
    assert validate_config(Component, full, "node 'a'") == full


def test_kwargs_are_python_values_and_fresh() -> None:
    kwargs = construct_kwargs(Component, {"channels": [1, 2], "crop": (3, 4)}, "node 'a'")
    assert (kwargs["channels"], kwargs["crop"]) == ((1, 2), (3, 4))
    kwargs["weights"]["image"] = 5.0
    assert construct_kwargs(Component, {}, "node 'a'")["weights"] == {"image": 1.0}
    Component(None, **kwargs)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"widht": 3}, ["unknown key 'widht'", "did you mean 'width'"]),
        ({"width": 0}, ["width is wrong", "expected: greater than or equal to 1", "actual: 0 (int)"]),
        ({"width": 513}, ["width is wrong", "less than or equal to 512", "513"]),
        ({"width": "12"}, ["width is wrong", "a valid integer", "'12' (str)"]),
        ({"width": 12.0}, ["width is wrong", "integer", "12.0 (float)"]),
        ({"width": True}, ["width is wrong", "a valid integer", "True (bool)"]),
        ({"flag": 1}, ["flag is wrong", "a valid boolean", "1 (int)"]),
        ({"scale": "1e-3"}, ["scale is wrong", "a valid number", "'1e-3' (str)"]),
        ({"cell": "rnn"}, ["cell is wrong", "'gru' or 'lstm'", "'rnn'"]),
        ({"channels": [1, "x"]}, ["channels[1] is wrong", "a valid integer", "'x' (str)"]),
        ({"weights": {"image": "much"}}, ["weights.image is wrong", "a valid number", "'much'"]),
        ({"crop": "x"}, ["crop is wrong", "a valid integer", "'x' (str)"]),
        ({"scale": float("nan")}, ["scale is not a finite number", "nan"]),
        ({"weights": {"image": float("-inf")}}, ["weights.image is not a finite number", "-inf"]),
        ({"channels": [1, {2}]}, ["channels[1] is not a plain value", "{2} (set)"]),
        ({"model": Path("x")}, ["model is not a plain value", "Path"]),
        ({"weights": {1: 2.0}}, ["weights has a key that is no text", "1 (int)"]),
    ],
)
def test_errors_say_where_what_was_expected_and_what_was_found(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_config(Component, values, "node 'enc_image'")
    message = str(caught.value)
    assert "where: node 'enc_image'" in message
    for word in words:
        assert word in message
    with pytest.raises(ConfigError):
        construct_kwargs(Component, values, "node 'enc_image'")


def test_all_errors_come_in_one_message() -> None:
    values = {"widht": float("nan"), "width": 0, "scale": float("inf"), "cell": "rnn", "flag": "no"}
    with pytest.raises(ConfigError) as caught:
        validate_config(Component, values, "node 'a'")
    lines = str(caught.value).splitlines()
    assert lines[0] == "5 keys are wrong"
    assert sorted(line.split()[1] for line in lines[1:6]) == ["cell", "flag", "scale", "unknown", "width"]
    assert "  - width is wrong: expected greater than or equal to 1, found 0 (int)" in lines


class Needy:
    def __init__(self, wiring: Any, *, size: int, rate: float) -> None: ...


def test_a_key_without_default_is_required() -> None:
    with pytest.raises(ConfigError, match="size is required"):
        validate_config(Needy, {"rate": 1.0}, "node 'a'")
    with pytest.raises(ConfigError) as caught:
        validate_config(Needy, {"size": float("nan")}, "node 'a'")
    assert "size is not a finite number" in str(caught.value)
    assert "rate is required" in str(caught.value)
    assert "size is required" not in str(caught.value)


class Inherits(Needy):
    pass


class Bare:
    pass


def recipe(
    modalities: Mapping[str, Any],
    *,
    latent: Annotated[int, Field(ge=1)] = 8,
    sizes: Sequence[int] = (1, 2),
    **options: Any,
) -> None:
    """Stand for a recipe."""


def test_functions_inherited_and_missing_constructors() -> None:
    assert validate_config(recipe, {"latent": 2}, "recipe") == {"latent": 2, "sizes": [1, 2]}
    with pytest.raises(ConfigError, match="unknown key 'other'"):
        validate_config(recipe, {"other": 2}, "recipe")
    assert list(config_model(Inherits).model_fields) == ["size", "rate"]
    assert validate_config(Bare, {}, "node 'a'") == {}
    with pytest.raises(ConfigError, match="there are none"):
        validate_config(Bare, {"x": 1}, "node 'a'")


def without_hint(*, width=3) -> None: ...  # type: ignore[no-untyped-def]


def wrong_default(*, width: Annotated[int, Field(ge=1)] = 0) -> None: ...


def none_default(*, width: int = None) -> None: ...  # noqa: RUF013  the sloppy default is the point


def infinite_default(*, clip: float = float("inf")) -> None: ...


def object_hint(*, wiring: Bare) -> None: ...


def unreadable_hint(*, wiring: "Unreadable") -> None: ...


def reserved_name(*, copy: int = 1) -> None: ...


def private_name(*, _x: int = 1) -> None: ...


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (without_hint, "'width' has no type hint"),
        (wrong_default, "width = 0"),
        (none_default, "width = None"),
        (infinite_default, "Out of range float values are not JSON compliant"),
        (object_hint, "make wiring positional"),
        (unreadable_hint, "TYPE_CHECKING"),
        (reserved_name, "'copy' has a name"),
        (private_name, "'_x' has a name"),
    ],
)
def test_a_component_that_cannot_be_configured_is_its_authors_error(target: Any, words: str) -> None:
    with pytest.raises(PluginError, match=words) as caught:
        config_model(target)
    assert f"test_signature:{target.__name__}" in str(caught.value)


def test_it_needs_no_torch() -> None:
    code = "import sys, fusion_engine.signature; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
