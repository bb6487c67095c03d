"""Finding and loading plugins: each wholly or not at all, the others untouched."""

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from fusion_engine.errors import PluginError
from fusion_engine.plugins import Plugins, load_plugins

GOOD = """
from fusion_engine import hookimpl
class Mine: ...
@hookimpl
def register_components(registry):
    registry.fusion("mine", Mine)
"""
LATE_FAILURE = """
from fusion_engine import hookimpl
@hookimpl
def register_components(registry):
    registry.fusion("early", dict)
    raise OSError("no libsndfile")
"""
FIRST_PARTY = {
    "image",
    "sequence",
    "text",
    "audio",
    "tabular",
    "fusions",
    "generative",
    "digits",
    "supervised",
    "alignment",
    "ensembles",
    "music",
}


@pytest.fixture(autouse=True)
def forget_throwaway_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("FUSION_ENGINE_STRICT", raising=False)
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, source: str) -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(source))
        return path

    return write


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Lay a distribution out as pip would, and put it on the path."""

    def install(distribution: str, source: str, plugin: str, entry_points: str | None = None) -> Path:
        module = distribution.replace("-", "_")
        site = tmp_path / f"site_{module}"
        info = site / f"{module}-1.5.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[fusion_engine.plugins]\n{entry_points or f'{plugin} = {module}'}\n")
        monkeypatch.syspath_prepend(site)
        return site

    return install


def assert_others_work(plugins: Plugins) -> None:
    assert plugins.registry.resolve("fusion/throwaway_good.mine").load().__name__ == "Mine"


def test_an_installed_plugin_is_found(install) -> None:
    install("acme-fusion", GOOD, "acme")
    plugins = load_plugins()
    assert plugins.info("acme").as_dict() == {
        "name": "acme",
        "state": "loaded",
        "origin": "acme_fusion",
        "distribution": "acme-fusion",
        "version": "1.5",
        "reason": None,
        "components": ["fusion/acme.mine"],
        "staged": [],
    }
    json.dumps([info.as_dict() for info in plugins.infos])
    assert plugins.registry.resolve("fusion/mine").load() is sys.modules["acme_fusion"].Mine


def test_files_modules_and_names_are_plugins(write, monkeypatch, tmp_path) -> None:
    module = ModuleType("pack.in_memory")
    exec(GOOD, module.__dict__)
    write("by_name.py", GOOD)
    monkeypatch.syspath_prepend(tmp_path)
    path = write("by_path.py", GOOD)
    plugins = load_plugins([path, "by_name", module])
    for name, origin in [("by_path", str(path)), ("by_name", "by_name"), ("in_memory", "pack.in_memory")]:
        info = plugins.info(name)
        assert (info.state, info.origin, info.components) == ("loaded", origin, (f"fusion/{name}.mine",))
    assert (
        plugins.registry.resolve("fusion/by_path.mine").load()
        is not plugins.registry.resolve("fusion/by_name.mine").load()
    )


def test_classes_of_a_file_can_be_found_again_and_edits_are_seen(write) -> None:
    path = write("whole.py", GOOD)
    first = load_plugins([path]).registry.resolve("fusion/whole.mine").load()
    assert getattr(sys.modules[first.__module__], first.__name__) is first
    assert load_plugins([str(path), path]).registry.resolve("fusion/whole.mine").load() is first
    write("whole.py", GOOD.replace("Mine: ...", "Mine: y=1"))
    assert load_plugins([path]).registry.resolve("fusion/whole.mine").load().y == 1
    assert not list(path.parent.glob("__pycache__/whole*"))


def test_engines_share_nothing(write) -> None:
    load_plugins([write("whole.py", GOOD)])
    with pytest.raises(PluginError, match="there is no fusion"):
        load_plugins().registry.resolve("fusion/whole.mine")


def test_a_missing_file_is_refused_at_once(tmp_path) -> None:
    for given in (tmp_path / "nowhere.py", "nowhere.py", tmp_path):
        with pytest.raises(PluginError, match="there is no plugin file"):
            load_plugins([given])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "import json\nimport no_such_module_at_all\n",
            r"ModuleNotFoundError: No module named 'no_such_module_at_all' \(.*bad\.py:2\)",
        ),
        ("def broken(:\n", r"SyntaxError: .*bad\.py:1"),
        ("\n1 / 0\n", r"ZeroDivisionError: division by zero \(.*bad\.py:2\)"),
        (LATE_FAILURE, r"OSError: no libsndfile \(.*bad\.py:6\)"),
        ("x = 1\n", "has no register_components"),
        ("def register_components(registry): ...\n", "has no register_components; .*mark it with @hookimpl"),
        (
            GOOD + "@hookimpl\ndef modify_confg(config): ...\n",
            "there is no hook 'modify_confg': did you mean 'modify_config'",
        ),
        (GOOD + "@hookimpl\ndef graph_built(grph): ...\n", "grph.* can not be found in the hookspec"),
        (GOOD + "    registry.fusion('mine', dict)\n", r"'fusion/bad\.mine' is registered twice.*\(.*bad\.py:7\)"),
        (GOOD + "    registry.fusion('other', dict, aliases=['mine'])\n", "registered twice"),
        (GOOD + "    registry.fushion('other', dict)\n", "AttributeError"),
        (GOOD + "    registry.fusion('Other', dict)\n", "'Other' cannot name a fusion"),
    ],
)
def test_a_failing_plugin_is_recorded_and_absent(write, source, reason) -> None:
    plugins = load_plugins([write("bad.py", source), write("throwaway_good.py", GOOD)])
    assert_others_work(plugins)
    info = plugins.info("bad")
    assert (info.state, info.components) == ("failed", ())
    assert not [e for e in plugins.registry.entries.values() if e.plugin == "bad"]
    assert plugins.manager.get_plugin("bad") is None
    with pytest.raises(PluginError, match="plugin 'bad' failed to load: ") as caught:
        plugins.registry.resolve("fusion/bad.anything")
    assert re.search(reason, str(caught.value))
    assert info.reason in str(caught.value)


def test_a_staged_name_says_whose_it_was(write) -> None:
    plugins = load_plugins([write("bad.py", LATE_FAILURE)])
    assert plugins.info("bad").staged == ("fusion/bad.early",)
    with pytest.raises(
        PluginError, match="fusion/early is absent: plugin 'bad' failed to load: OSError: no libsndfile"
    ):
        plugins.registry.resolve("fusion/early")


def test_a_failed_file_leaves_no_module(write) -> None:
    load_plugins([write("bad.py", "1 / 0")])
    assert not [name for name in sys.modules if "_bad_" in name and name.startswith("fusion_engine_file")]


@pytest.mark.parametrize("stem", ["Bad", "my-plugin", "1st"])
def test_a_file_whose_stem_cannot_be_a_name_fails(write, stem) -> None:
    assert "cannot name a plugin" in str(load_plugins([write(f"{stem}.py", GOOD)]).info(stem).reason)


def test_a_failing_installed_plugin_leaves_the_others(install) -> None:
    install("broken-dist", "raise RuntimeError('undefined symbol')", "broken")
    install("missing-module", "", "gone", entry_points="gone = no_such_module_here")
    install("good-dist", GOOD, "throwaway_good")
    plugins = load_plugins()
    assert_others_work(plugins)
    assert "RuntimeError: undefined symbol" in str(plugins.info("broken").reason)
    assert plugins.info("gone").reason == "ModuleNotFoundError: No module named 'no_such_module_here'"
    assert plugins.info("broken").distribution == "broken-dist"


def test_two_distributions_of_one_name_are_both_refused(install) -> None:
    install("first-dist", GOOD, "same")
    install("second-dist", GOOD, "same")
    install("good-dist", GOOD, "throwaway_good")
    plugins = load_plugins()
    assert_others_work(plugins)
    twins = [info for info in plugins.infos if info.name == "same"]
    assert [(t.distribution, t.state) for t in twins] == [("first-dist", "failed"), ("second-dist", "failed")]
    with pytest.raises(PluginError, match=r"several plugins are called 'same'.*first-dist 1\.5 and .*second-dist 1\.5"):
        plugins.registry.resolve("fusion/same.mine")
    assert "first_dist" not in sys.modules


def test_a_file_cannot_take_an_installed_name(install, write) -> None:
    install("first-dist", GOOD, "same")
    plugins = load_plugins([write("same.py", GOOD)])
    assert {info.state for info in plugins.infos if info.name == "same"} == {"failed"}


def test_one_module_under_two_names_is_refused_and_the_same_one_again_is_not_loaded_twice(install) -> None:
    install("twice-dist", GOOD, "", entry_points="one = twice_dist\ntwo = twice_dist")
    plugins = load_plugins(["twice_dist"])
    assert [i.name for i in plugins.infos if i.origin == "twice_dist"] == ["one", "two"]
    assert plugins.info("one").state == "loaded"
    assert "loaded already, as plugin 'one'" in str(plugins.info("two").reason)


def test_a_blocked_plugin_is_not_even_imported(install, write) -> None:
    install("explosive", "raise SystemExit('imported')", "explosive")
    plugins = load_plugins([write("mine.py", "raise SystemExit")], block=["explosive", "mine"])
    assert {plugins.info(name).state for name in ("explosive", "mine")} == {"blocked"}
    with pytest.raises(PluginError, match="plugin 'explosive' is blocked"):
        plugins.registry.resolve("fusion/explosive.mine")
    with pytest.raises(PluginError, match="did you mean 'explosive'"):
        load_plugins(block=["explosiv"])


@pytest.mark.parametrize("value", ["", "0", "1"])
def test_strict_makes_a_failure_fatal(write, monkeypatch, value) -> None:
    others = [info.name for info in load_plugins().infos]
    monkeypatch.setenv("FUSION_ENGINE_STRICT", value)
    path = write("bad.py", LATE_FAILURE)
    if value == "1":
        with pytest.raises(PluginError, match=r"plugin 'bad' failed to load\n(.*\n)*.*no libsndfile"):
            load_plugins([path], block=others)
    else:
        assert load_plugins([path], block=others).info("bad").state == "failed"


HOOKS = """
from fusion_engine import hookimpl
@hookimpl
def register_components(registry): ...
@hookimpl
def environment_checks():
    return {answer}
@hookimpl
def modify_config(config):
    config["by"] = {answer}
"""


def test_hooks_are_called_in_every_plugin_that_has_them(write) -> None:
    files = [
        write("one.py", HOOKS.format(answer="[1]")),
        write("two.py", HOOKS.format(answer="None")),
        write("three.py", GOOD),
    ]
    plugins = load_plugins(files)
    assert plugins.call("environment_checks") == [[1]]
    config: dict = {}
    assert plugins.call("modify_config", config=config, context=None) == []
    assert "by" in config
    assert plugins.call("stage_started", stage=None, model=None, context=None) == []
    with pytest.raises(PluginError, match="did you mean 'graph_built'"):
        plugins.call("graph_build")


def test_a_failing_hook_names_plugin_and_hook(write) -> None:
    plugins = load_plugins([write("one.py", HOOKS.format(answer="[1]")), write("two.py", HOOKS.format(answer="1 / 0"))])
    with pytest.raises(
        PluginError, match=r"plugin 'two' failed in its hook 'environment_checks'\n.*ZeroDivisionError.*two\.py:7"
    ):
        plugins.call("environment_checks")


LAZY = """
import sys
import fusion_engine, fusion_engine.plugins, fusion_engine.signature
from fusion_engine import FusionError, Registry, hookimpl
plugins = fusion_engine.plugins.load_plugins()
heavy = {"torch", "timm", "transformers", "sklearn", "numpy", "torchvision", "lightning_fabric"} & set(sys.modules)
print(sorted(heavy), sorted(i.name for i in plugins.infos if i.distribution == "fusion-engine"))
"""


def test_loading_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", LAZY], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[] {sorted(FIRST_PARTY)}"


def test_every_first_party_plugin_loads_and_every_component_of_it_imports() -> None:
    plugins = load_plugins()
    assert {i.name: i.reason for i in plugins.infos if i.name in FIRST_PARTY} == dict.fromkeys(FIRST_PARTY)
    for entry in plugins.registry.entries.values():
        if entry.plugin in FIRST_PARTY:
            entry.load()
