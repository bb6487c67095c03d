"""The command line as people type it: exit status, what is printed where, what is written."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

from fusion_engine import Engine, FusionModel
from fusion_engine.cli import app, main

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits_vae_gan.yaml"
TRAPS = Path(__file__).with_name("traps.py")
RUN: dict[str, Any] = yaml.safe_load("""
name: small
modalities:
  image: {use: modality/image}
  mirror: {use: modality/image}
nodes:
  enc_image: {use: encoder/image.conv, in: image, with: {channels: 2, pooled: 8, width: 4}}
  enc_mirror: {use: encoder/image.conv, in: mirror, with: {channels: 2, pooled: 8, width: 4}}
  post: {use: posterior/mopoe, in: [enc_image, enc_mirror], with: {latent: 4}}
  mixture: {use: prior/mixture, of: post, with: {components: 2}}
  dec_image: {use: decoder/image.conv, in: {z: post}, out: image, with: {channels: 2}}
  dec_mirror: {use: decoder/image.conv, in: {z: post}, out: mirror, with: {channels: 2}}
  disc_image: {use: encoder/image.conv, in: image, with: {channels: 2, pooled: 8, width: 4}}
  disc: {use: head/score, in: disc_image}
losses:
  reconstruction: {use: loss/reconstruction}
  kl: {use: loss/kl}
  game: {use: loss/relativistic, with: {score: disc, fakes: {reconstruction: 1, prior: 1}}}
stages:
  - {name: pretrain, steps: 2, losses: [reconstruction, kl]}
  - {name: together, steps: 1, losses: [reconstruction, kl, game]}
data: {use: dataset/digits, with: {modalities: [image, mirror, label]}}
train: {batch_size: 32, checkpoint_every: 1}
""")
JUDGED = {**RUN, "evaluation": {"label": "label", "samples": 100, "epochs": 1}}


def run(*arguments: object) -> object:
    """Run the command line and return its exit status."""
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    return caught.value.code


def refused(capsys: pytest.CaptureFixture[str], arguments: list[object], *fragments: str) -> None:
    """Check for status 2, all of the message on stderr, and no traceback."""
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    for fragment in fragments:
        assert fragment in err, f"{fragment!r} is not in:\n{err}"


def written(config: dict[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with judges and figures."""
    base = tmp_path_factory.mktemp("runs")
    assert run("train", written(JUDGED, base / "run.yaml"), "--out", base / "small") == 0
    return base / "small"


@pytest.fixture(scope="module")
def model(folder: Path) -> FusionModel:
    return Engine().load(folder / "model")


# train


def test_a_run_leaves_a_model_figures_and_pictures(folder: Path, model: FusionModel) -> None:
    names = {p.name for p in folder.iterdir()}
    tables = {"figures.csv", "figures.json", "history.csv", "report.html"}
    assert names == {"checkpoint.pt", "model", "overview.png", "samples", *tables}
    history = (folder / "history.csv").read_text().splitlines()
    assert len(history) == 3
    assert history[0].startswith("stage,epoch,step,")
    assert "discriminator/game" in history[0]
    figures = {f["name"]: f for f in json.loads((folder / "figures.json").read_text())}
    for name in (
        "judge of image: accuracy",
        "conditional coherence: image -> mirror",
        "joint coherence: prior training",
        "joint coherence: prior mixture",
        "Fréchet distance: mirror",
        "coverage: image",
        "memorising: mirror",
    ):
        assert set(figures[name]) == {"name", "value", "real", "chance", "note", "seed", "steps", "seconds", "commit"}
        assert (figures[name]["seed"], figures[name]["steps"]) == (0, 3)
        assert model.metrics[name] == pytest.approx(figures[name]["value"], abs=1e-4)
    assert figures["judge of image: accuracy"]["value"] > 0.15  # chance is 0.1; one epoch is short
    assert len((folder / "figures.csv").read_text().splitlines()) == 1 + len(figures)
    # 2 real, 2 reconstructed, 2 translated, 2 generated lines
    assert size(folder / "overview.png")[1] == 8 * 78 + 6
    assert len(list((folder / "samples").glob("mirror_*.png"))) == 12
    card = (folder / "model" / "README.md").read_text()
    assert "- joint coherence: prior mixture: " in card
    assert "- pretrain: 2 steps of reconstruction, kl" in card


def test_a_run_without_evaluation_leaves_a_page_without_figures(folder: Path, tmp_path: Path) -> None:
    assert run("train", written(RUN, tmp_path / "run.yaml"), "--out", tmp_path / "plain") == 0
    names = {p.name for p in (tmp_path / "plain").iterdir()}
    assert names == {"checkpoint.pt", "model", "history.csv", "report.html"}
    plain, judged = ((place / "report.html").read_text() for place in (tmp_path / "plain", folder))
    for section in ("samples", "translations", "interpolation", "training", "graph", "environment", "config"):
        assert f'<section id="{section}"' in plain
        assert f'<section id="{section}"' in judged
    assert '<section id="figures"' not in plain
    assert '<section id="figures"' in judged
    assert "image \N{RIGHTWARDS ARROW} mirror" in judged


def test_a_run_is_judged_again_by_other_settings(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "small"
    shutil.copytree(folder, copied)
    first = json.loads((copied / "figures.json").read_text())
    assert run("evaluate", copied) == 0
    again = json.loads((copied / "figures.json").read_text())
    assert [f["value"] for f in again] == [f["value"] for f in first]
    assert run("evaluate", copied, "--set", "evaluation.samples=150", "--set", "data.with.noise=0.3") == 0
    assert json.loads((copied / "figures.json").read_text()) == again  # the run's own are kept
    noisy = json.loads((copied / "evaluated" / "figures.json").read_text())
    assert [f["name"] for f in noisy] == [f["name"] for f in first]
    assert [f["value"] for f in noisy] != [f["value"] for f in first]
    assert Engine().load(copied / "evaluated" / "model").config.evaluation.samples == 150
    capsys.readouterr()
    refused(capsys, ["evaluate", copied, "--set", "train.seed=1"], "other data or evaluation alone", "train.seed=1")


def test_a_classifier_is_judged_and_cross_validated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = {"use": "modality/image", "encoder": {"use": "encoder/image.conv", "with": {"channels": 2}}}
    parts = {"image": small, "mirror": small, "label": "modality/category"}
    config = Engine().recipe_config("classifier", parts, width=8, name="sorts", data=RUN["data"])
    config |= {"stages": [{"name": "train", "steps": 3, "losses": ["cross_entropy"]}], "evaluation": {"label": "label"}}
    out = tmp_path / "sorts"
    assert run("train", written(config, tmp_path / "sorts.yaml"), "--out", out) == 0
    figures = {f["name"]: f["value"] for f in json.loads((out / "figures.json").read_text())}
    assert {"accuracy", "accuracy: image", "accuracy: image+mirror", "F1: macro", "log loss"} <= set(figures)
    assert figures["accuracy"] == figures["accuracy: image+mirror"]
    page = (out / "report.html").read_text()
    assert "Predictions of label" in page
    assert "calibration error is" in page
    assert not (out / "overview.png").exists()
    assert Engine().load(out / "model").metrics["accuracy"] == pytest.approx(figures["accuracy"], abs=1e-4)
    capsys.readouterr()
    assert run("evaluate", out) == 0
    assert "accuracy: image+mirror" in capsys.readouterr().out
    assert {f["name"]: f["value"] for f in json.loads((out / "figures.json").read_text())} == figures
    assert run("evaluate", out, "--folds", 2, "--stratify", "label", "--set", "stages.0.steps=1") == 0
    assert "accuracy: " in capsys.readouterr().out
    lines = (out / "cross_validation.csv").read_text().splitlines()
    assert lines[0] == "fold,tested,seed,commit,name,value,chance"
    assert {line.split(",")[0] for line in lines[1:]} == {"0", "1", "mean", "deviation"}
    assert sum(int(n) for n in {line.split(",")[1].removesuffix(" rows") for line in lines[1:]} if n) in (
        898,
        899,
        1797,
    )
    refused(capsys, ["evaluate", out, "--group", "label"], "say how to cross-validate", "--folds 5")
    refused(capsys, ["evaluate", tmp_path / "sorts.yaml", "--folds", 0], "only groups can be held out")
    refused(capsys, ["evaluate", out, "--folds", 3, "--group", "speaker"], "packaged data set has no column")


def test_a_config_alone_is_not_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(JUDGED, tmp_path / "run.yaml")
    said = ["a config alone has no trained model", "expected: the folder of a run", f"train {path} first", "--folds 5"]
    refused(capsys, ["evaluate", path], *said)


def test_a_forgotten_file_of_plugins_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(TRAPS.read_text())
    config = {
        "modalities": {"size": {"use": "modality/number"}},
        "nodes": {"enc": {"use": "encoder/mine.tied", "in": "size"}},
    }
    Engine(plugins=[file]).build(config).save(tmp_path / "run" / "model")
    said = ["needs the plugin 'mine'", "encoder/mine.tied", f"fix: give its file: --plugin {file}"]
    for command in (["evaluate"], ["evaluate", "--folds", 2], ["draw"], ["generate"]):
        refused(capsys, [*command, tmp_path / "run"], *said)
    assert run("draw", tmp_path / "run", "--plugin", file) == 0


def test_compare_trains_every_fusion_by_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"use": "modality/image", "encoder": {"use": "encoder/image.conv", "with": {"channels": 2}}}
    parts = {"image": small, "mirror": small, "label": "modality/category"}
    config = Engine().recipe_config("classifier", parts, width=8, name="sorts", data=RUN["data"])
    config |= {"stages": [{"name": "train", "steps": 1, "losses": ["cross_entropy"]}], "evaluation": {"label": "label"}}
    path = written(config, tmp_path / "sorts.yaml")
    refused(capsys, ["compare", path, "--node", "fuse"], "there is no node 'fuse'", "did you mean 'fused'?")
    monkeypatch.setattr("fusion_engine.comparison.fusions", lambda engine, config, node: {node: config.plain()})
    out, each = tmp_path / "out", "data.with.validation=0.{seed}"
    assert run("compare", path, "--seeds", 2, "--out", out, "--each", each, "--set", "name=other") == 0
    assert "| fused | " in capsys.readouterr().out
    with (out / "figures.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["name"] == "accuracy"]
    assert [row["seed"] for row in rows] == ["0", "1"]
    assert len({row["config"] for row in rows}) == 2


def test_settings_change_the_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = written(RUN, tmp_path / "run.yaml"), tmp_path / "out"
    assert run("train", path, "--out", out, "--set", "train.seed=3", "--set", "stages.0.steps=1") == 0
    config = Engine().load(out / "model").config
    assert (config.train.seed, config.stages[0].steps) == (3, 1)
    assert yaml.safe_load(path.read_text()) == RUN
    capsys.readouterr()
    for setting, message in (
        ("seed", "a setting is key.key=value"),
        ("stages.7.steps=1", "'7' of a setting leads nowhere"),
        ("name.first=1", "'first' of a setting leads nowhere"),
        ("train.sed=1", "did you mean 'seed'"),
    ):
        refused(capsys, ["train", path, "--out", out, "--set", setting], message)


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def test_resume_goes_on_from_the_checkpoint(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = written(RUN, tmp_path / "run.yaml"), tmp_path / "out"
    from fusion_engine.training.trainer import Trainer

    taken, step = [], Trainer.step

    def counted(trainer: Any, batches: Any) -> Any:
        taken.append(trainer.progress.step)
        if taken == [0, 1, 2]:
            raise RuntimeError("killed")
        return step(trainer, batches)

    monkeypatch.setattr(Trainer, "step", counted)
    with pytest.raises(RuntimeError, match="killed"):
        main(["train", str(path), "--out", str(out)])
    assert (out / "checkpoint.pt").exists()
    assert not (out / "model").exists()
    capsys.readouterr()
    assert run("train", path, "--out", out, "--resume") == 0
    said = capsys.readouterr().out
    assert taken == [0, 1, 2, 2]
    assert str(out / "model") in said.replace("\n", "")
    assert weights(out) == weights(folder)
    other = {**RUN, "train": {**RUN["train"], "seed": 1}}
    refused(
        capsys, ["train", written(other, path), "--out", out, "--resume"], "TrainingError", "belongs to another config"
    )
    (out / "checkpoint.pt").write_bytes(b"\x80\x04N.")
    refused(capsys, ["train", written(RUN, path), "--out", out, "--resume"], "not a checkpoint of ours", "remove it")


def test_what_would_fail_after_training_is_refused_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written({**JUDGED, "evaluation": {"label": "lable"}}, tmp_path / "run.yaml")
    refused(capsys, ["train", path, "--out", tmp_path / "out"], "DataError", "no column 'lable' to judge by", "label")
    assert not (tmp_path / "out").exists()
    path = written(RUN, tmp_path / "run.yaml")
    refused(capsys, ["train", path, "--out", path], f"{path}: File exists")
    refused(capsys, ["train", path, "--out", path / "deeper"], "Not a directory")


# generate and translate


def arrays(folder: Path, name: str) -> np.ndarray:
    return np.stack([np.load(path) for path in sorted(folder.glob(f"{name}_*.npy"))])


def test_generate_writes_what_the_model_generates(
    folder: Path, model: FusionModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for name, options in {"a": [], "b": [], "training": ["--prior", "training"], "seed": ["--seed", 2]}.items():
        assert run("generate", folder, "-n", 3, "--out", tmp_path / name, *options) == 0
        found[name] = arrays(tmp_path / name, "image")
    assert f"wrote 12 files to {tmp_path / 'a'}" in capsys.readouterr().out.replace("\n", "")
    np.testing.assert_array_equal(found["a"], np.stack(model.generate(3)["image"]))
    np.testing.assert_array_equal(found["a"], found["b"])
    np.testing.assert_array_equal(found["training"], np.stack(model.generate(3, prior="training")["image"]))
    assert not np.array_equal(found["a"], found["seed"])
    assert size(tmp_path / "a" / "mirror_002.png") == (64, 64)
    refused(capsys, ["generate", folder, "--prior", "mixtur"], "no fitted prior 'mixtur'", "did you mean 'mixture'?")
    refused(capsys, ["generate", folder, "-n", 0], "greater than or equal")
    refused(capsys, ["generate", tmp_path], "is no saved model", "check the path")
    refused(capsys, ["generate", folder, "--out", DIGITS], "File exists")


def test_translate_reads_files(
    folder: Path, model: FusionModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
    np.save(tmp_path / "seven.npy", image)
    Image.fromarray(image).save(tmp_path / "seven.png")
    np.savetxt(tmp_path / "seven.csv", image, delimiter=",")
    wanted = model.translate({"image": [image]}, to="mirror")[0]
    for suffix in ("npy", "png", "csv"):
        out = tmp_path / suffix
        given = f"image={tmp_path / f'seven.{suffix}'}"
        assert (
            run("translate", folder / "model", "--given", given, "--to", "mirror", "--to", "image", "--out", out) == 0
        )
        np.testing.assert_array_equal(arrays(out, "mirror")[0], wanted)
        assert (out / "image_000.png").exists()
    seven = f"image={tmp_path / 'seven.npy'}"
    for given, to, fragments in [
        ("image", "mirror", ["modality=file", "actual: image"]),
        ("imag=x.npy", "mirror", ["no modality 'imag'", "did you mean 'image'?"]),
        ("image=nowhere.npy", "mirror", ["there is no file 'nowhere.npy'"]),
        (f"image={DIGITS}", "mirror", ["cannot read the image"]),
        (seven, "mirrow", ["no modality 'mirrow'", "did you mean 'mirror'?"]),
    ]:
        refused(capsys, ["translate", folder, "--given", given, "--to", to], *fragments)
    (tmp_path / "pickled.npy").write_bytes(b"\x80\x04N.")
    refused(capsys, ["translate", folder, "--given", f"image={tmp_path / 'pickled.npy'}", "--to", "mirror"], "pickled")


def test_a_class_is_given_by_its_name(tmp_path: Path) -> None:
    modalities = {"image": "modality/image", "label": "modality/category"}
    model = Engine().recipe("vae", modalities, latent=2, components=0)
    model.save(tmp_path / "model")
    out = tmp_path / "out"
    assert (
        run("translate", tmp_path / "model", "--given", "label=2", "--to", "image", "--to", "label", "--out", out) == 0
    )
    np.testing.assert_array_equal(arrays(out, "image")[0], model.translate({"label": [2]}, to="image")[0])
    assert (out / "label_000.txt").read_text() in {"0", "1", "2"}


# draw, plugins, doctor


def test_draw_shows_who_feeds_whom(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("draw", DIGITS) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "strokes: modality/sequence.strokes" in lines
    assert "dec_image: decoder/image.conv (z=post) -> image  [generator]" in lines
    assert "disc_all: fusion/fusions.concat (in=disc_image+disc_audio+disc_strokes+disc_text)  [discriminator]" in lines
    assert "mixture: prior/generative.mixture (nothing), of post  [generator]" in lines
    assert run("draw", DIGITS, "--mermaid") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "flowchart LR"
    assert "  disc_image --> disc_all" in lines
    assert "  mixture -.-> post" in lines
    assert "  class disc,disc_all,disc_audio,disc_image,disc_strokes,disc_text discriminator" in lines
    drawn = []
    for source in (folder, folder / "model", folder / "model" / "config.yaml"):
        assert run("draw", source) == 0
        drawn.append(capsys.readouterr().out)
    assert len(set(drawn)) == 1
    assert "mirror: modality/image.image" in drawn[0]


BROKEN = "from fusion_engine import hookimpl\nimport no_such_library\n"


def test_a_broken_plugin_file_is_listed_with_its_reason_and_breaks_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(BROKEN)
    given = ["--plugin", broken, "--plugin", TRAPS]
    assert run("plugins", "--json", *given) == 0
    infos = {info["name"]: info for info in json.loads(capsys.readouterr().out)}
    keys = {"name", "state", "origin", "distribution", "version", "reason", "components", "staged"}
    assert all(set(info) == keys for info in infos.values())
    assert infos["broken"]["state"] == "failed"
    assert infos["broken"]["origin"] == str(broken)
    assert "No module named 'no_such_library'" in infos["broken"]["reason"]
    assert f"{broken}:2" in infos["broken"]["reason"]
    assert infos["broken"]["components"] == []
    assert infos["traps"]["components"] == ["dataset/traps.never", "decoder/traps.dreams", "encoder/traps.tied"]
    assert infos["image"]["state"] == "loaded"
    assert infos["image"]["distribution"] == "fusion-engine"
    assert "encoder/image.conv" in infos["image"]["components"]
    assert run("draw", DIGITS, *given) == 0
    uses = {
        "modalities": {"image": {"use": "modality/image"}},
        "nodes": {"e": {"use": "encoder/broken.x", "in": "image"}},
    }
    capsys.readouterr()
    config = written(uses, tmp_path / "uses.yaml")
    refused(capsys, ["draw", config, *given], "node 'e'", "plugin 'broken' failed to load", "no_such_library")
    refused(capsys, ["plugins", "--plugin", tmp_path / "nowhere.py"], "PluginError", "no plugin file")


def test_plugins_as_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusion_engine.cli.console", Console(width=200))
    (tmp_path / "broken.py").write_text(BROKEN)
    assert run("plugins", "--plugin", tmp_path / "broken.py") == 0
    out = capsys.readouterr().out
    for fragment in ("image", "fusion-engine 0.", "posterior/generative.mopoe", "failed", "no_such_library"):
        assert fragment in out


def test_doctor_says_what_fits_and_what_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = run("doctor")
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if line.startswith(("ok", "bad"))} <= {"ok", "bad"}
    assert status == int(any(line.startswith("bad") for line in lines))
    for what in ("python", "pydantic", "import torch", "device", "plugin image"):
        assert any(line.startswith(("ok   ", "bad  ")) and f" {what}: " in line for line in lines), what
    checks = tmp_path / "checks.py"
    hook = "@hookimpl\ndef environment_checks():\n    return [('the moon', False, 'is not full')]\n"
    checks.write_text("from fusion_engine import hookimpl\n@hookimpl\ndef register_components(registry): ...\n" + hook)
    (tmp_path / "broken.py").write_text(BROKEN)
    assert run("doctor", "--plugin", checks, "--plugin", tmp_path / "broken.py") == 1
    out = capsys.readouterr().out
    assert "bad  the moon: is not full" in out
    assert "bad  plugin broken: ModuleNotFoundError" in out.replace("\n", "")


COMMANDS = """
from fusion_engine import hookimpl
@hookimpl
def register_components(registry): ...
@hookimpl
def register_commands(cli):
    {body}
"""
GREETS = "cli.command('greet')(lambda: print('hello from a plugin'))"


def test_installed_plugins_add_commands_and_a_failing_one_loses_only_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app, "registered_commands", [*app.registered_commands])
    for name, body in {"greets": GREETS, "fails": "1 / 0"}.items():
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[fusion_engine.plugins]\n{name} = commands_of_{name}\n")
        (tmp_path / f"commands_of_{name}.py").write_text(COMMANDS.format(body=body))
    monkeypatch.syspath_prepend(tmp_path)
    assert run("greet") == 0
    out, err = capsys.readouterr()
    assert out == "hello from a plugin\n"
    assert "plugin 'fails' failed in its hook 'register_commands'" in err
    assert "ZeroDivisionError" in err


def test_the_installed_command_ends_with_status_2(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("fusion-engine")), "draw", str(tmp_path / "nowhere.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[0].startswith(f"ConfigError: the file {tmp_path / 'nowhere.yaml'} cannot be read")
