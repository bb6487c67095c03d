"""Shared by all tests: shapes and types of every call are checked, torch keeps to one thread, engines are at hand."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; subprocesses inherit it

ROOT = Path(__file__).parents[1]
STRANGERS = {"config", "discovery", "engine", "entry", "plugins", "registry"}
"""Modules that take whatever people and plugins write, of any type, and answer in words: no type checker goes first."""
FIRST_PARTY = [path.name for path in sorted((ROOT / "plugins").glob("fusion_engine_*"))]
OURS = [f"fusion_engine.{path.stem}" for path in sorted((ROOT / "fusion_engine").glob("[!_]*"))]

install_import_hook(
    [name for name in [*OURS, *FIRST_PARTY] if name.rpartition(".")[2] not in STRANGERS], "beartype.beartype"
)

from fusion_engine import Engine  # noqa: E402 (the hook sees only what is imported after it)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """An engine with the installed plugins."""
    return Engine()


@pytest.fixture(scope="session")
def toys() -> Engine:
    """An engine that has the toy components too."""
    return Engine(plugins=[ROOT / "tests" / "toys.py"])
