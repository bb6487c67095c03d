"""Names, lookup and lazy import of components."""

import sys

import pytest

from fusion_engine.entry import Entry, PluginInfo
from fusion_engine.errors import PluginError
from fusion_engine.kinds import KINDS
from fusion_engine.registry import Registry


class Thing:
    pass


def merged(*parts: Registry) -> Registry:
    registry = Registry()
    for part in parts:
        registry.commit(part)
    return registry


@pytest.fixture
def registry() -> Registry:
    audio, image, other = Registry("audio"), Registry("image"), Registry("other")
    audio.modality("mel", Thing, aliases=("spectrogram",))
    image.encoder("conv", "some.where:Conv")
    image.encoder("timm", "some.where:Timm", requires=("timm",))
    other.encoder("conv", Thing)
    other.fusion("audio", Thing)
    return merged(audio, image, other)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_method(kind: str) -> None:
    registry = Registry("mine")
    getattr(registry, kind)("it", Thing, aliases=("that",), requires=("numpy",))
    assert registry.entries == {f"{kind}/mine.it": Entry(kind, "mine", "it", Thing, ("that",), ("numpy",))}
    assert registry.of(kind) == [registry.resolve("it", kind)]


@pytest.mark.parametrize(
    "use", ["modality/audio.mel", "modality/mel", "modality/spectrogram", "modality/audio.spectrogram"]
)
def test_full_short_and_alias_find_one_entry(registry: Registry, use: str) -> None:
    entry = registry.resolve(use)
    assert (entry.plugin, entry.name, entry.full_name) == ("audio", "mel", "modality/audio.mel")


def test_kind_is_filled_in_or_checked(registry: Registry) -> None:
    assert registry.resolve("mel", kind="modality") is registry.resolve("audio.mel", "modality")
    assert registry.resolve("modality/mel", "modality").name == "mel"
    with pytest.raises(PluginError, match=r"wrong kind\n  expected: encoder\n  actual: modality"):
        registry.resolve("modality/mel", "encoder")


def test_a_name_of_two_plugins_needs_the_full_name(registry: Registry) -> None:
    with pytest.raises(PluginError, match=r"encoder/image\.conv, encoder/other\.conv"):
        registry.resolve("encoder/conv")
    assert registry.resolve("encoder/other.conv").target is Thing
    assert registry.resolve("encoder/image.conv").target == "some.where:Conv"


def test_an_alias_never_takes_over_a_full_name_and_clashes_with_a_short_one() -> None:
    first, second = Registry("first"), Registry("second")
    first.fusion("concat", Thing)
    second.fusion("join", dict, aliases=("concat",))
    registry = merged(first, second)
    assert registry.resolve("fusion/first.concat").target is Thing
    assert registry.resolve("fusion/second.concat").name == "join"
    with pytest.raises(PluginError, match=r"fusion/first\.concat, fusion/second\.join"):
        registry.resolve("fusion/concat")


@pytest.mark.parametrize(
    ("use", "hint"),
    [
        ("encoder/tim", "did you mean 'timm'"),
        ("encoder/imag.timm", r"did you mean 'image\.timm'"),
        ("encoder/zzzzzz", "known: conv, timm"),
        ("prior/x", "there are none"),
        ("encodr/timm", "did you mean 'encoder'"),
        ("timm", "expected: kind/plugin.name or kind/name"),
        ("encoder/a.b.c", "not a component's name"),
        ("encoder/Timm", "not a component's name"),
        ("builtins:eval", "not a component's name"),
    ],
)
def test_unknown_names_list_the_near_ones(registry: Registry, use: str, hint: str) -> None:
    with pytest.raises(PluginError, match=hint):
        registry.resolve(use)


def test_absent_plugins_say_why() -> None:
    registry = Registry()
    registry.absent["sound"] = PluginInfo(
        "sound", "failed", "x", reason="OSError: no libsndfile", staged=("encoder/sound.wave",)
    )
    registry.absent["image"] = PluginInfo("image", "blocked", "x", reason="the caller asked for that")
    for use in ("encoder/sound.wave", "encoder/sound.never_registered", "encoder/wave", "encoder/unrelated"):
        with pytest.raises(PluginError, match=r"plugin 'sound' failed to load: OSError: no libsndfile"):
            registry.resolve(use)
    with pytest.raises(PluginError, match="plugin 'image' is blocked"):
        registry.resolve("encoder/image.conv")


def test_duplicates_name_both() -> None:
    registry = Registry("mine")
    registry.fusion("concat", "first:One", aliases=("join",))
    for name, aliases in [("concat", ()), ("join", ()), ("third", ("concat",)), ("fourth", ("join",))]:
        with pytest.raises(PluginError, match=r"first:One.*second:Two"):
            registry.fusion(name, "second:Two", aliases=aliases)
    with pytest.raises(PluginError, match="registered twice"):
        registry.fusion("fifth", Thing, aliases=("fifth",))
    registry.encoder("concat", Thing)
    assert list(registry.entries) == ["encoder/mine.concat", "fusion/mine.concat"]
    taken = Registry("mine")
    taken.fusion("concat", Thing)
    with pytest.raises(PluginError, match=r"registered twice: fusion/mine\.concat"):
        registry.commit(taken)


@pytest.mark.parametrize("name", ["", "Conv", "a.b", "1st", "_x", "a-b", "a/b", "é"])
def test_bad_names_are_refused(name: str) -> None:
    for arguments in [{"name": name}, {"name": "good", "aliases": (name,)}]:
        with pytest.raises(PluginError, match="lowercase"):
            Registry("mine").fusion(target=Thing, **arguments)
    with pytest.raises(PluginError, match="cannot name a plugin"):
        Registry(name).fusion("good", Thing)


@pytest.mark.parametrize(
    "target", ["package.module", "package:", ":Name", "package.:Name", "a:b:c", "pack age:Name", "a:b()", 3, None]
)
def test_bad_targets_are_refused(target: object) -> None:
    with pytest.raises(PluginError, match="'module:Name'"):
        Registry("mine").fusion("good", target)


def test_a_forgotten_comma_and_a_wrong_kind_are_refused() -> None:
    with pytest.raises(PluginError, match="tuples"):
        Registry("mine").fusion("good", Thing, aliases="join")
    with pytest.raises(PluginError, match="did you mean 'fusion'"):
        Registry("mine").add("fusoin", "good", Thing)


def test_load_imports_lazily(tmp_path, monkeypatch) -> None:
    (tmp_path / "late_module.py").write_text("class Late: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = Entry("fusion", "mine", "late", "late_module:Late")
    assert "late_module" not in sys.modules
    loaded = entry.load()
    assert loaded is sys.modules["late_module"].Late
    monkeypatch.delitem(sys.modules, "late_module")
    assert Entry("fusion", "mine", "now", Thing).load() is Thing


def test_load_failure_says_which_why_where_and_what_to_install(tmp_path, monkeypatch) -> None:
    (tmp_path / "broken_module.py").write_text("\n\nraise RuntimeError('built for another CUDA')\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = Entry(
        "fusion", "mine", "late", "broken_module:Late", requires=("numpy", "no-such-thing>=2", "other_absent")
    )
    with pytest.raises(PluginError) as caught:
        entry.load()
    message = str(caught.value)
    assert "'fusion/mine.late' of plugin 'mine'" in message
    assert f"RuntimeError: built for another CUDA ({tmp_path / 'broken_module.py'}:3)" in message
    assert message.endswith("fix: pip install 'no-such-thing>=2' other_absent")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_load_of_a_name_that_the_module_lacks() -> None:
    with pytest.raises(PluginError, match="has no attribute 'Late'"):
        Entry("fusion", "mine", "late", "json:Late").load()
