"""Imports point down, and what must not be imported is not: read from the source, nothing is run."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fusion_engine

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(path.name for path in (ROOT / "plugins").glob("fusion_engine_*"))
FLOORS = {
    0: "errors kinds noise kernels",
    1: "values",
    2: "likelihoods components hooks priors shuffling",
    3: "entry registry discovery signature plugins",
    4: "config wiring",
    5: "graph run losses probe spectral build",
    6: "data training evaluation requests sampling masking masked latent_search inpainting",
    7: "artefact fitting augmenting model testing",
    8: "engine scoring",
    9: "judging measuring order_test predicting report environment experiment study cross_validation comparison",
    10: "cli",
}
"""Modules and packages of fusion_engine; the lazy ``__init__`` stands outside, for it imports by name."""
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names.split()}
ANNOTATES = {"hooks", "engine", "cli", "training.callbacks"}
"""Modules that may import upwards under TYPE_CHECKING, for annotations."""


@dataclass(frozen=True)
class Import:
    """One imported module, by whom, and under what."""

    by: str
    line: int
    module: str
    names: tuple[str, ...] = ()
    typing: bool = False
    local: bool = False

    def __str__(self) -> str:
        return f"{self.by}:{self.line} imports {self.module}"


def modules(folder: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


SOURCES = {
    n: p for f in [ROOT / "fusion_engine", *(ROOT / "plugins" / p for p in PLUGINS)] for n, p in modules(f).items()
}
OTHERS = {
    str(p.relative_to(ROOT)): p for folder in ("examples", "tests") for p in sorted((ROOT / folder).rglob("*.py"))
}


def imports(name: str, path: Path) -> list[Import]:
    return list(_walk(ast.parse(path.read_text(encoding="utf-8")), name, False, False))


def _walk(node: ast.AST, by: str, typing: bool, local: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(by, node.lineno, alias.name, (), typing, local)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{by}:{node.lineno}: a relative import"
        names = tuple(alias.name for alias in node.names)
        yield Import(by, node.lineno, str(node.module), names, typing, local)
    inside = typing or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    within = local or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, by, inside, within)


IMPORTS = {name: imports(name, path) for name, path in SOURCES.items()}
ALL = [i for found in IMPORTS.values() for i in found]


def targets(found: Import) -> list[str]:
    """Modules of ours that an import reaches: ``from fusion_engine import hooks`` means the module."""
    whole = [f"{found.module}.{name}" for name in found.names if f"{found.module}.{name}" in SOURCES]
    return whole or ([found.module] if found.module in SOURCES else [])


def place(module: str) -> str:
    """The module or package of fusion_engine directly below the root."""
    return module.split(".")[1] if "." in module else ""


def test_the_table_names_every_module_once() -> None:
    present = {place(m) for m in SOURCES if m.startswith("fusion_engine.")}
    assert sorted(FLOOR) == sorted(present)
    assert sum(len(names.split()) for names in FLOORS.values()) == len(FLOOR)


def test_imports_point_down() -> None:
    wrong = []
    for i in ALL:
        if not i.by.startswith("fusion_engine.") or (i.typing and i.by.removeprefix("fusion_engine.") in ANNOTATES):
            continue
        for target in targets(i):
            if place(target) and FLOOR[place(target)] > FLOOR[place(i.by)]:
                wrong.append(f"{i}: from floor {FLOOR[place(i.by)]} up to {FLOOR[place(target)]}")
    assert not wrong, "\n".join(wrong)


def test_neighbours_on_a_floor_do_not_import_each_other_both_ways() -> None:
    pairs = {
        (place(i.by), place(t))
        for i in ALL
        if i.by.startswith("fusion_engine.") and not i.typing
        for t in targets(i)
        if place(t) not in ("", place(i.by))
    }
    assert not {(a, b) for a, b in pairs if (b, a) in pairs}


def test_there_is_no_cycle_of_modules() -> None:
    graph = {name: {t for i in found if not i.typing for t in targets(i)} - {name} for name, found in IMPORTS.items()}
    for name, reached in graph.items():  # importing a.b runs a first
        packages = {".".join(t.split(".")[:n]) for t in reached for n in range(1, t.count(".") + 1)}
        graph[name] = reached | {p for p in packages if p in SOURCES and not name.startswith(p)}
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which walks it


def test_only_the_root_is_public_to_plugins() -> None:
    public = set(vars(fusion_engine)["__all__"])
    wrong = []
    for i in ALL:
        plugin = i.by.split(".")[0]
        root = i.module.split(".")[0]
        if plugin not in PLUGINS or not root.startswith("fusion_engine"):
            continue
        if root == "fusion_engine" and (i.module != "fusion_engine" or not set(i.names) <= public or not i.names):
            wrong.append(f"{i}, {', '.join(i.names)}: not a public name")
        if root != "fusion_engine" and root != plugin:
            wrong.append(f"{i}: another plugin")
    assert not wrong, "\n".join(wrong)


def test_the_core_knows_no_plugin() -> None:
    assert not [str(i) for i in ALL if i.by.split(".")[0] == "fusion_engine" and i.module.startswith("fusion_engine_")]


def test_the_module_that_an_entry_point_names_imports_nothing_but_the_hook() -> None:
    for plugin in PLUGINS:
        found = {(i.module, i.names) for i in IMPORTS[plugin] if not i.typing}
        assert found == {("typing", ("TYPE_CHECKING",)), ("fusion_engine", ("hookimpl",))}, plugin


def test_only_training_knows_lightning() -> None:
    known = {i.by for i in ALL if "lightning" in i.module}
    assert known
    assert all(by.startswith("fusion_engine.training.") for by in known), known
    assert not [str(i) for i in ALL if i.module.startswith(("pytorch_lightning", "lightning."))]


@pytest.mark.parametrize("module", ["pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"])
def test_nothing_is_pickled(module: str) -> None:
    assert not [str(i) for i in ALL if i.module.split(".")[0] == module]


def test_nobody_imports_plugins_by_folder() -> None:
    everywhere = ALL + [i for name, path in OTHERS.items() for i in imports(name, path)]
    assert not [str(i) for i in everywhere if i.module.split(".")[0] == "plugins"]


# What is called


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))


SHIPPED = {**SOURCES, **{name: path for name, path in OTHERS.items() if name.startswith("examples")}}


def test_torch_reads_tensors_only_and_numpy_no_objects() -> None:
    wanted = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
    seen = set()
    for name, path in SHIPPED.items():
        for call in calls(path):
            function = ast.unparse(call.func)
            if function in wanted:
                seen.add(function)
                key, value = wanted[function]
                given = {k.arg: k.value for k in call.keywords}
                assert isinstance(given.get(key), ast.Constant), f"{name}:{call.lineno}"
                assert given[key].value is value, f"{name}:{call.lineno}"  # type: ignore[attr-defined]
    assert seen == set(wanted)


def test_no_config_can_run_code() -> None:
    allowed = {("fusion_engine.discovery", "exec"), ("fusion_engine.discovery", "compile")}  # files given by hand
    banned = {"eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
    found = {(name, ast.unparse(c.func)) for name, path in SHIPPED.items() for c in calls(path)}
    assert {(name, function) for name, function in found if function in banned} == allowed
    trusting = [n for n, p in SHIPPED.items() for c in calls(p) for k in c.keywords if k.arg == "trust_remote_code"]
    assert not trusting


def test_no_error_is_caught_bare_or_passed_over() -> None:
    for name, path in SHIPPED.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{name}:{node.lineno}: a bare except"
                silent = all(isinstance(line, ast.Pass) for line in node.body)
                assert not silent, f"{name}:{node.lineno}: a swallowed error"


def test_our_own_types_are_not_asked_what_they_have() -> None:
    found = [f"{n}:{c.lineno}" for n, p in SHIPPED.items() for c in calls(p) if ast.unparse(c.func) == "hasattr"]
    assert not found
