"""A wrong config is refused in words: where, what was expected, what to do; and nobody has looked at the data."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fusion_engine import ConfigError, DataError, Engine, FusionError, Table, read_config, write_config
from fusion_engine.cli import main
from fusion_engine.config import RunConfig, override, read_yaml

Config = dict[str, Any]
TRAPS = Path(__file__).with_name("traps.py")
GOOD: Config = yaml.safe_load("""
modalities:
  image: {use: modality/image}
  strokes: {use: modality/strokes}
  label: {use: modality/category}
nodes:
  enc_image: {use: encoder/image.conv, in: image}
  enc_strokes: {use: encoder/sequence.rnn, in: strokes}
  post: {use: posterior/poe, in: [enc_image, enc_strokes], with: {latent: 4}}
  mixture: {use: prior/mixture, of: post}
  dec_image: {use: decoder/image.conv, in: {z: post}, out: image}
  dec_strokes: {use: decoder/sequence.rnn, in: {z: post}, out: strokes}
  classify: {use: head/classification, in: enc_image, out: label}
  disc_image: {use: encoder/image.conv, in: image}
  disc_strokes: {use: encoder/sequence.conv, in: strokes}
  disc_all: {use: fusion/concat, in: [disc_image, disc_strokes]}
  disc: {use: head/score, in: disc_all}
losses:
  rec: {use: loss/reconstruction}
  kl: {use: loss/kl}
  game: {use: loss/relativistic, with: {score: disc}}
stages:
  - {name: first, steps: 1, losses: [rec, kl]}
  - {name: second, steps: 1, losses: [game]}
data: {use: dataset/traps.never}
""")
GAN: Config = yaml.safe_load("""
modalities: {image: {use: modality/image}}
nodes:
  noise: {use: prior/normal}
  dec_image: {use: decoder/image.conv, in: {z: noise}, out: image}
  disc_image: {use: encoder/image.conv, in: image}
  disc: {use: head/score, in: disc_image}
losses: {game: {use: loss/relativistic, with: {score: disc}}}
stages: [{name: first, steps: 1, losses: [game]}]
data: {use: dataset/traps.never}
""")
REMOVED: Any = object()


def changed(config: Config, place: str, value: Any) -> Config:
    """Put a value at a place such as nodes.post.with.latent; numbers count list items."""
    new = copy.deepcopy(config)
    *path, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    inner: Any = new
    for part in path:
        inner = inner.setdefault(part, {}) if isinstance(inner, dict) else inner[part]
    if value is REMOVED:
        del inner[last]
    else:
        inner[last] = value
    return new


@pytest.fixture(scope="module")
def trapped() -> Engine:
    return Engine(plugins=[TRAPS])


def refusal(function: Callable[[], Any], *fragments: str) -> FusionError:
    """Catch the error and check that it says all of it."""
    with pytest.raises(FusionError) as caught:
        function()
    for fragment in fragments:
        assert fragment in str(caught.value), f"{fragment!r} is not in:\n{caught.value}"
    return caught.value


# What is found without torch: place, value, what the message says.
AT_CHECK: list[tuple[str, Any, list[str]]] = [
    # names of components
    ("nodes.enc_image.use", "encoder/image.convv", ["node 'enc_image'", "no encoder 'image.convv'", "'image.conv'"]),
    ("nodes.enc_image.use", "encodr/image.conv", ["node 'enc_image'", "no kind 'encodr'", "'encoder'"]),
    ("nodes.enc_image.use", "image.conv", ["node 'enc_image'", "expected: kind/plugin.name or kind/name"]),
    ("nodes.enc_image.use", "encoder/conv", ["node 'enc_image'", "encoder/image.conv, encoder/sequence.conv", "full"]),
    ("nodes.post.use", "loss/kl", ["node 'post'", "a loss is no node", "posterior"]),
    ("modalities.image.use", "modality/imag", ["modality 'image'", "no modality 'imag'", "mean 'image'"]),
    ("losses.kl.use", "loss/kll", ["loss 'kl'", "no loss 'kll'", "mean 'kl'"]),
    ("losses.kl.use", "encoder/image.conv", ["loss 'kl'", "wrong kind", "expected: loss", "actual: encoder"]),
    ("data.use", "dataset/traps.nevr", ["where: data", "no dataset 'traps.nevr'", "'traps.never'"]),
    # keys and values of our own sections
    ("modalitis", {}, ["modalitis: unknown key; did you mean 'modalities'?"]),
    ("nodes.enc_image.wiht", {}, ["nodes.enc_image.wiht: unknown key; did you mean 'with'?"]),
    ("train.batchsize", 3, ["train.batchsize: unknown key; did you mean 'batch_size'?"]),
    ("train.optimizer.generator.rl", 1.0, ["train.optimizer.generator.rl: unknown key; did you mean 'lr'?"]),
    ("train.optimizer.generatr.lr", 1.0, ["train.optimizer.generatr: ", "'generator' or 'discriminator'"]),
    ("stages.0.epoch", 3, ["stages.0.epoch (stage 'first'): unknown key; did you mean 'epochs'?"]),
    ("train.batch_size", "many", ["train.batch_size: Input should be a valid integer; found 'many'"]),
    ("train.batch_size", 0, ["train.batch_size: Input should be greater than or equal to 1; found 0"]),
    ("train.seed", True, ["train.seed: Input should be a valid integer; found True"]),
    ("evaluation", {"label": "label", "samples": 3}, ["evaluation.samples: ", "greater than or equal to 100; found 3"]),
    ("fusion_graph", 2, ["fusion_graph: Input should be 1; found 2"]),
    ("nodes.post.modality_dropout", 1.0, ["nodes.post.modality_dropout", "less than 1"]),
    ("nodes.enc_image.modality_dropout", 0.5, ["node 'enc_image', 'modality_dropout'", "no inputs to drop"]),
    (
        "nodes.post",
        "posterior/poe",
        ["nodes.post: Input should be a mapping with use, with, in,", "found 'posterior/poe'"],
    ),
    ("nodes.post.use", REMOVED, ["nodes.post.use: is required"]),
    ("nodes.post.with", [1], ["nodes.post.with: Input should be a mapping; found [1]"]),
    ("modalities.image", 3, ["modalities.image: Input should be a mapping with use, with; found 3"]),
    ("data", "dataset/digits", ["data: Input should be a mapping with use, with; found 'dataset/digits'"]),
    (
        "train.optimizer.generator",
        0.1,
        ["train.optimizer.generator: Input should be a mapping with lr, betas, weight_decay; found 0.1"],
    ),
    ("losses.kl", "loss/kll", ["loss 'kl'", "no loss 'kll'", "mean 'kl'"]),
    ("nodes.a-b", {"use": "encoder/image.conv", "in": "image"}, ["nodes.a-b: String should match pattern"]),
    ("nodes", {}, ["nodes: Dictionary should have at least 1 item"]),
    ("modalities", REMOVED, ["modalities: is required"]),
    # wiring
    ("nodes.post.in", ["enc_imag"], ["there is no 'enc_imag'", "node 'post', port 'in'", "did you mean 'enc_image'"]),
    ("nodes.post.in", REMOVED, ["node 'post'", "nothing wired into it", "add 'in'"]),
    ("nodes.enc_image.in", "dec_image", ["cycle", "enc_image -> post -> dec_image -> enc_image"]),
    ("nodes.disc_all.in", ["disc_all"], ["cycle", "disc_all -> disc_all"]),
    ("nodes.disc_all.in", ["image"], ["node 'disc_all', port 'in'", "a modality", "put an encoder between them"]),
    ("nodes.disc_all.in", ["disc"], ["node 'disc_all', port 'in'", "encoder, fusion, posterior, prior", "a head"]),
    ("nodes.disc_all.in", ["disc_image"] * 2, ["node 'disc_all', port 'in'", "once each"]),
    ("nodes.post.in", "dec_image", ["node 'post', port 'in'", "actual: a decoder"]),
    ("nodes.enc_image.in", "enc_strokes", ["node 'enc_image', port 'in'", "decoder, modality", "actual: an encoder"]),
    ("nodes.enc_image.in", ["image", "strokes"], ["node 'enc_image', port 'in'", "one encoder each, then a fusion"]),
    ("nodes.enc_image.in", {"x": "image"}, ["node 'enc_image', port 'in'", "a name or a list of names"]),
    ("nodes.dec_image.in", {"z": "image"}, ["node 'dec_image', port 'z'", "a modality"]),
    ("nodes.dec_image.in", {"c": "post"}, ["node 'dec_image', port 'z'", "no latent"]),
    ("nodes.dec_image.in.c", ["disc", "post"], ["node 'dec_image', port 'c'", "fuse them first"]),
    ("nodes.dec_image.out", "imagee", ["node 'dec_image', port 'out'", "does not have", "did you mean 'image'?"]),
    ("nodes.dec_image.out", REMOVED, ["node 'dec_image'", "add 'out'"]),
    ("nodes.enc_image.out", "image", ["node 'enc_image'", "not an encoder", "remove 'out'"]),
    ("nodes.image", {"use": "encoder/image.conv", "in": "image"}, ["'image' is a modality and a node", "rename"]),
    ("nodes.mixture.of", "enc_image", ["node 'mixture', port 'of'", "expected: one of: posterior", "an encoder"]),
    ("nodes.mixture.of", "pots", ["node 'mixture', port 'of'", "there is no 'pots'", "did you mean 'post'"]),
    ("nodes.mixture.in", "post", ["node 'mixture'", "a prior has no inputs", "use 'of'"]),
    ("nodes.dec_image.of", "post", ["node 'dec_image'", "only a prior", "remove 'of'"]),
    # losses, players and stages
    ("losses.game.with.score", "dics", ["loss 'game', 'score'", "there is no node 'dics'", "did you mean 'disc'?"]),
    ("losses.game.with.score", "disc*", ["loss 'game', 'score'", "there is no node 'disc*'"]),
    ("losses.game.with.score", "disc_all", ["loss 'game', 'score'", "is no head", "actual: fusion", "'disc'"]),
    ("losses.kl.with.nodes", ["pots"], ["loss 'kl', 'nodes'", "there is no node 'pots'", "did you mean 'post'"]),
    ("players.discriminator", ["dsic*"], ["players.discriminator", "'dsic*' matches no node", "'disc'"]),
    ("players.critic", ["disc*"], ["players.critic: ", "'generator' or 'discriminator'"]),
    ("stages.0.losses", ["rec", "lk"], ["stage 'first'", "the loss 'lk'", "did you mean 'kl'?"]),
    ("stages.0.losses", [], ["stages.0.losses (stage 'first')", "at least 1 item"]),
    ("stages.0.learn", ["decc_*"], ["stage 'first', 'learn'", "'decc_*' matches no node", "'dec_image'"]),
    ("stages.0.steps", REMOVED, ["stage 'first'", "either epochs or steps", "actual: neither"]),
    ("stages.0.epochs", 2, ["stage 'first'", "either epochs or steps", "actual: both"]),
    ("stages.1.name", "first", ["stage 'first'", "two stages have one name", "rename one"]),
    ("stages.0.until", {"metric": "recc"}, ["stage 'first', 'until'", "does not log 'recc'", "did you mean 'rec'?"]),
]

# What needs the components themselves.
AT_BUILD: list[tuple[str, Any, list[str]]] = [
    ("nodes.post.with.laten", 3, ["node 'post'", "unknown key 'laten': did you mean 'latent'?"]),
    ("modalities.image.with", {"siz": [8, 8]}, ["modality 'image'", "unknown key 'siz': did you mean 'size'?"]),
    ("losses.kl.with", {"bta": 1}, ["loss 'kl'", "unknown key 'bta': did you mean 'beta'?"]),
    ("data.with", {"x": 3}, ["where: data", "unknown key 'x'"]),
    ("nodes.post.with.latent", "four", ["node 'post'", "latent is wrong", "a valid integer", "'four' (str)"]),
    ("nodes.post.with.latent", 0, ["node 'post'", "latent is wrong", "greater than or equal to 1", "0 (int)"]),
    ("nodes.post.with.latent", 4.5, ["node 'post'", "latent is wrong", "4.5 (float)"]),
    (
        "nodes.enc_image.with",
        {"widht": 3, "pooled": -1},
        ["node 'enc_image'", "2 keys are wrong", "mean 'width'", "pooled"],
    ),
    (
        "nodes.enc_image.use",
        "encoder/sequence.rnn",
        ["node 'enc_image', port 'in'", "RNNEncoder", "expected: SequenceModality", "modality/image.image", "conv"],
    ),
    ("nodes.dec_image.use", "decoder/sequence.rnn", ["node 'dec_image', port 'out'", "SequenceModality", "image.conv"]),
    (
        "nodes.classify.out",
        "image",
        [
            "node 'classify', port 'out'",
            "expected: CategoryModality",
            "actual: Image",
            "fix: name what this head predicts: out: label",
        ],
    ),
    ("nodes.classify.out", REMOVED, ["node 'classify'", "does not know what to predict", "add 'out'"]),
    ("nodes.disc.out", "label", ["node 'disc', port 'out'", "predicts no modality", "remove 'out'"]),
    (
        "nodes.dec_image.use",
        "decoder/traps.dreams",
        ["loss 'rec'", "'dec_image' has no density", "adversarial", "'nodes'"],
    ),
    ("nodes.mixture.with", {"latent": 5}, ["node 'mixture'", "expected: latent: 4", "latent: 5", "leave 'latent' out"]),
    ("nodes.mixture.use", "prior/normal", ["node 'mixture', port 'of'", "nothing to fit", "prior/mixture"]),
    ("losses.game.with", {}, ["loss 'game'", "score is required"]),
    (
        "losses.game.with.score",
        "classify",
        ["loss 'game', 'score'", "'classify' does not score", "head/score", "known: disc"],
    ),
    ("losses.game.with.fakes", {"reconstructions": 1}, ["loss 'game'", "'prior', 'fitted' or 'reconstruction'"]),
    ("losses.kl.with.nodes", ["enc_*"], ["loss 'kl', 'nodes'", "'enc_*' matches no posterior", "known: post"]),
    ("losses.rec.with.nodes", ["post"], ["loss 'rec', 'nodes'", "'post' matches no decoder", "dec_image, dec_strokes"]),
    ("losses.rec.with.weights", {"imag": 1.0}, ["loss 'rec', 'weights'", "no modality 'imag'", "did you mean 'image'"]),
    (
        "losses.ce",
        {"use": "loss/cross_entropy", "with": {"head": "disc"}},
        ["loss 'ce', 'head'", "'disc' predicts no label"],
    ),
    # what nothing reads
    (
        "nodes.idle",
        {"use": "prior/normal", "with": {"latent": 4}},
        ["node 'idle'", "the node 'idle' is read by nothing", "fix: wire it into a decoder, or remove it"],
    ),
    ("nodes.mixture.of", REMOVED, ["'mixture' is read by nothing", "add 'of: post'"]),
    ("nodes.idle", {"use": "encoder/image.conv", "in": "image"}, ["'idle' is read by nothing", "name it in a loss"]),
    (
        "nodes.idle",
        {"use": "fusion/concat", "in": ["enc_image", "enc_strokes"]},
        ["'idle' is read by nothing: no node takes it and no loss names it", "wire it into a node"],
    ),
    ("nodes.enc_image", {"use": "encoder/image.timm", "in": "image", "with": {"model": "resnet81"}}, ["'resnet18'"]),
]


def titles(cases: list[tuple[str, Any, list[str]]]) -> list[str]:
    return [f"{place} = {'removed' if value is REMOVED else value}"[:60] for place, value, _ in cases]


def test_the_config_that_is_bent_is_right_itself(trapped: Engine) -> None:
    for config in (GOOD, GAN):
        trapped.build(config)


@pytest.mark.parametrize(("place", "value", "fragments"), AT_CHECK, ids=titles(AT_CHECK))
def test_refused_without_torch(trapped: Engine, place: str, value: Any, fragments: list[str]) -> None:
    config = changed(GOOD, place, value)
    error = refusal(lambda: trapped.check(config), *fragments)
    assert str(refusal(lambda: trapped.build(config))) == str(error)


@pytest.mark.parametrize(("place", "value", "fragments"), AT_BUILD, ids=titles(AT_BUILD))
def test_refused_when_built(trapped: Engine, place: str, value: Any, fragments: list[str]) -> None:
    config = changed(GOOD, place, value)
    trapped.check(config)
    refusal(lambda: trapped.build(config), *fragments)


def test_a_wrong_head_is_told_of_the_heads_that_fit(engine: Engine) -> None:
    config = {
        "modalities": {"image": "modality/image", "age": "modality/number", "label": "modality/category"},
        "nodes": {
            "enc": {"use": "encoder/image.conv", "in": "image"},
            "guess": {"use": "head/classification", "in": "enc", "out": "age"},
        },
    }
    fix = refusal(lambda: engine.build(config), "node 'guess', port 'out'", "actual: Number").fix
    assert fix is not None
    assert fix.startswith("use a head for it: ")
    assert fix.endswith(", or name what this head predicts: out: label")
    heads = fix.removeprefix("use a head for it: ").partition(", or ")[0].split(", ")
    assert "head/supervised.regression" in heads
    assert not [h for h in heads if h.startswith("encoder") or "classification" in h]


def test_what_is_read_by_name_or_without_being_named_may_end_in_features(engine: Engine) -> None:
    config = changed(GOOD, "data", REMOVED)
    idle = changed(config, "nodes.idle", {"use": "encoder/image.conv", "in": "image"})
    engine.build({**idle, "stages": []})
    engine.build(changed(idle, "losses.align", {"use": "loss/clip", "with": {"nodes": ["id*", "disc_image"]}}))
    engine.build(changed(config, "nodes.idle", {"use": "posterior/gaussian", "in": "enc_image"}))  # KL reads them all


@pytest.mark.parametrize(
    ("place", "value", "fragments"),
    [
        ("losses.game.with.fakes", {"reconstruction": 1}, ["loss 'game', 'fakes'", "no posterior", "use {prior: 1}"]),
        ("losses.kl", {"use": "loss/kl"}, ["loss 'kl', 'nodes'", "there is no posterior", "add a posterior"]),
        ("losses.match", {"use": "loss/feature_matching", "with": {"score": "disc"}}, ["loss 'match'", "no posterior"]),
    ],
)
def test_what_a_gan_cannot_have(trapped: Engine, place: str, value: Any, fragments: list[str]) -> None:
    refusal(lambda: trapped.build(changed(GAN, place, value)), *fragments)


def test_all_that_is_wrong_in_form_is_said_at_once(trapped: Engine) -> None:
    config = changed(changed(GOOD, "train.batchsize", 3), "nodes.post.wiht", {})
    refusal(lambda: trapped.check(config), "train.batchsize", "nodes.post.wiht")


# On the command line


@pytest.mark.parametrize(
    ("config", "fragments"),
    [
        (changed(GOOD, "nodes.enc_image.use", "encoder/image.convv"), ["PluginError", "node 'enc_image'"]),
        (changed(GOOD, "nodes.enc_image.in", "dec_image"), ["ConfigError", "cycle"]),
        (changed(GOOD, "nodes.post.with.latent", 0), ["ConfigError", "node 'post'", "actual: 0 (int)"]),
        (changed(GOOD, "nodes.enc_image.use", "encoder/sequence.rnn"), ["BuildError", "port 'in'", "SequenceModality"]),
        (changed(GOOD, "nodes.dec_image.use", "decoder/traps.dreams"), ["BuildError", "has no density"]),
        (changed(GOOD, "stages.0.steps", REMOVED), ["ConfigError", "stage 'first'", "neither"]),
        (changed(GOOD, "data", REMOVED), ["ConfigError", "names no data set", "dataset/digits"]),
    ],
)
def test_train_ends_with_status_2_and_the_message(
    config: Config, fragments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    assert status("train", path, "--out", tmp_path / "run", "--plugin", TRAPS) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    for fragment in fragments:
        assert fragment in err
    assert not (tmp_path / "run").exists()


def status(*arguments: object) -> object:
    """Run the command line and return its exit status."""
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    return caught.value.code


def test_the_trap_works(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    with pytest.raises(AssertionError, match="the data was read"):
        main(["train", str(path), "--out", str(tmp_path / "run"), "--plugin", str(TRAPS)])


# Files

IMAGE = "modalities: {image: {use: modality/image}}\nnodes: {e: {use: encoder/image.conv, in: image}}\n"


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        ("modalities: {image: [\nnodes: }\n", ["is not valid YAML", 'run.yaml", line 2, column 8']),
        ("nodes:\n\tpost: 3\n", ["is not valid YAML", "line 2, column 1", "'\\t' that cannot start any token"]),
        (IMAGE + "nodes: {}\n", ["the key 'nodes' stands twice", "run.yaml, line 3, column 1", "rename or remove one"]),
        ("nodes:\n  a: {use: x}\n  a: {use: y}\n", ["the key 'a' stands twice", "run.yaml, line 3, column 3"]),
        ("name: !!python/object/apply:os.system ['exit 1']\n", ["is not valid YAML", "python/object", "line 1"]),
        ("a: 1\n---\nb: 2\n", ["is not valid YAML", "a single document"]),
        ("", ["a run config is a mapping", "run.yaml", "NoneType"]),
        ("- a\n", ["a run config is a mapping", "actual: list"]),
        (IMAGE + "1: 2\n", ["1: Keys should be strings"]),
        (b"\x80\x04\x95\x0b\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.", ["run.yaml is no text", "YAML in UTF-8"]),
        (b"name: \x00\n", ["is not valid YAML", "unacceptable character"]),
    ],
)
def test_a_file_that_is_no_config(content: str | bytes, fragments: list[str], tmp_path: Path, engine: Engine) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    error = refusal(lambda: engine.check(path), *fragments)
    assert isinstance(error, ConfigError)


@pytest.mark.parametrize(("name", "why"), [("missing.yaml", "No such file"), (".", "Is a directory")])
def test_a_path_that_is_no_file(
    name: str, why: str, tmp_path: Path, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    refusal(lambda: engine.check(path), f"the file {path} cannot be read: {why}", "check the path")
    refusal(lambda: engine.build(str(path)), str(path))
    for command in ("train", "draw"):
        assert status(command, path) == 2
        out, err = capsys.readouterr()
        assert why in err
        assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("3.", 3.0),
        (".inf", float("inf")),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("False", False),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("-3", -3),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("~", None),
        ("null", None),
        ("<<", "<<"),
        ("1e-3.5", "1e-3.5"),
    ],
)
def test_plain_words_mean_what_yaml_1_2_says(written: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"a: {written}\n")
    read = read_yaml(path)["a"]
    assert (read, type(read)) == (value, type(value))


TRICKY = [
    "no",
    "1e-3",
    "1E5",
    "0o17",
    "010",
    "1:30",
    "2020-01-01",
    "~",
    "",
    "<<",
    "true",
    "a: b",
    "é",
    "1_0",
    ".5",
    "=",
]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    values: list[Any] = [*TRICKY, 1e-5, 1e300, 3.0, 0, -7, True, None, {"no": "on"}, []]
    config = read_config(changed(changed(GOOD, "nodes.post.with", {"values": values}), "train.clip", 1e-7))
    path = tmp_path / "config.yaml"
    write_config(config, path)
    again = read_config(path)
    assert isinstance(again, RunConfig)
    assert again == config
    assert [type(v) for v in again.nodes["post"].with_["values"]] == [type(v) for v in values]


def test_a_modality_or_loss_may_be_a_name_alone(tmp_path: Path, engine: Engine) -> None:
    short = changed(changed(GOOD, "modalities.image", "modality/image"), "losses.kl", "loss/kl")
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(short))
    assert read_config(path) == read_config(GOOD)
    write_config(read_config(path), tmp_path / "again.yaml")
    assert read_config(tmp_path / "again.yaml") == read_config(GOOD)
    assert "{use: modality/image}" in (tmp_path / "again.yaml").read_text().replace(", with: {}", "")
    settings = ["modalities.image.with.size=[8, 8]", "losses.kl.with.beta=2"]
    assert read_config(override(short, settings)) == read_config(override(GOOD, settings))
    assert engine.check(changed(short, "data", REMOVED)).modalities["image"] == "modality/image.image"


# Data that does not fit is refused before anything is trained.


def fit(engine: Engine, data: Any) -> Callable[[], Any]:
    return lambda: engine.build(changed(GAN, "data", REMOVED)).fit(data)


def test_images_of_two_shapes(engine: Engine) -> None:
    ragged = {"image": [np.zeros((8, 8), np.uint8), np.zeros((9, 8), np.uint8)]}
    error = refusal(fit(engine, ragged), "modality 'image'", "(1, 8, 8)", "(1, 9, 8)", "fix: set `size`")
    assert isinstance(error, DataError)


@pytest.mark.parametrize(
    ("data", "fragments"),
    [
        ({"imag": np.zeros((2, 8, 8))}, ["no column 'image'", "actual: imag", "did you mean 'imag'"]),
        ({"image": np.zeros((2, 8, 8)), "label": [1]}, ["different lengths", "'image': 2, 'label': 1"]),
        ({"image": []}, ["no rows"]),
        ({"image": [None, None]}, ["modality 'image'", "no images to learn from"]),
        ({"image": ["nowhere.png"]}, ["modality 'image'", "nowhere.png"]),
        ({"image": [object()]}, ["modality 'image'", "image"]),
        ([[1, 2]], ["a row is a mapping", "row 0", "actual: list"]),
        ({}, ["the table has no rows"]),
        (3, ["this is no table", "expected: columns, a data frame", "actual: int"]),
    ],
)
def test_data_that_does_not_fit(engine: Engine, data: Any, fragments: list[str]) -> None:
    assert isinstance(refusal(fit(engine, data), *fragments), DataError)


def test_a_table_says_what_it_takes() -> None:
    assert isinstance(refusal(lambda: Table(iter([{"a": 1}])), "this is no table", "make a list of it"), DataError)


def test_a_stage_that_teaches_nothing_is_refused_at_build() -> None:
    config = copy.deepcopy(GOOD)
    config["stages"] = [{"name": "first", "steps": 1, "losses": ["rec"], "learn": ["disc*"]}]
    with pytest.raises(ConfigError, match="nothing to learn") as error:
        Engine(plugins=[TRAPS]).build(config)
    assert error.value.where == "stage 'first'"
    assert "nodes of the generator" in str(error.value.expected)


def test_reconstruction_from_noise_alone_is_refused() -> None:
    config = copy.deepcopy(GOOD)
    config["nodes"]["noise"] = {"use": "prior/normal", "with": {"latent": 4}}
    config["nodes"]["dec_image"]["in"] = {"z": "noise"}
    with pytest.raises(FusionError, match="noise alone"):
        Engine(plugins=[TRAPS]).build(config)


def test_mixtures_in_one_decoder_have_the_same_inputs() -> None:
    config = copy.deepcopy(GOOD)
    config["nodes"]["post"]["use"] = "posterior/mopoe"
    config["nodes"]["other"] = {**copy.deepcopy(config["nodes"]["post"]), "with": {"latent": 2}}
    config["nodes"]["dec_image"]["in"] = {"z": ["post", "other"]}
    Engine(plugins=[TRAPS]).build(config)
    for part in ({"use": "posterior/moe"}, {"in": ["enc_strokes", "enc_image"]}):
        wrong = copy.deepcopy(config)
        wrong["nodes"]["other"] |= part
        with pytest.raises(FusionError, match="two mixtures that do not belong together"):
            Engine(plugins=[TRAPS]).build(wrong)


def test_nothing_is_generated_is_refused() -> None:
    with pytest.raises(DataError, match="nothing to generate"):
        Engine(plugins=[TRAPS]).build(GOOD).generate(0)
