"""What a fused model does for people: fit, generate, translate, reconstruct, impute, predict, save, load."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset

from fusion_engine import (
    ConfigError,
    DataError,
    Engine,
    FusionError,
    FusionModel,
    PluginError,
    Posterior,
    read_config,
)
from fusion_engine.signature import config_model
from fusion_engine.training import Callback

HERE = Path(__file__).parent
TOYS, TRAPS = HERE / "toys.py", HERE / "traps.py"
VAE: dict[str, Any] = yaml.safe_load("""
name: two toys
modalities:
  x: {use: modality/toys.vector}
  y: {use: modality/toys.ragged}
nodes:
  enc_x: {use: encoder/toys.mlp, in: x}
  enc_y: {use: encoder/toys.bag, in: y}
  post: {use: posterior/poe, in: [enc_x, enc_y], with: {latent: 2}}
  mixture: {use: prior/mixture, of: post, with: {components: 2}}
  dec_x: {use: decoder/toys.mlp, in: {z: post}, out: x}
  dec_y: {use: decoder/toys.line, in: {z: post}, out: y}
losses:
  reconstruction: {use: loss/reconstruction}
  kl: {use: loss/kl}
stages:
  - {name: first, steps: 2, losses: [reconstruction]}
  - {name: second, epochs: 1, losses: [reconstruction, kl]}
train: {batch_size: 4, ema_half_life: 10}
""")
X = [[1.0, 2.0], [0.5, -1.0], [0.0, 0.25], [-2.0, 1.0], [3.0, 3.0], [1.5, 0.0]]
Y = [[1.0], [2.0, 3.0, 4.0], [0.5, 0.5], [-1.0, -2.0, 0.0], [1.0, 1.0], [2.0]]
GAPPY = {"x": [*X[:4], None, X[5]], "y": [Y[0], None, *Y[2:]]}


@pytest.fixture(scope="module")
def trained(toys: Engine) -> FusionModel:
    return toys.build(VAE).fit(GAPPY)


def same_weights(a: FusionModel, b: FusionModel) -> bool:
    one, two = a.graph.state_dict(), b.graph.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


# Data in every shape that people have it in


class Rows(TorchDataset[Mapping[str, Any]]):
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int) -> Mapping[str, Any]:
        return {name: column[i] for name, column in GAPPY.items() if column[i] is not None}


def test_columns_rows_data_frames_and_datasets_are_the_same(toys: Engine, trained: FusionModel) -> None:
    frame = pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in GAPPY.items()})
    with_nan = frame.where(frame.notna(), np.nan)
    rows = [Rows()[i] for i in range(len(X))]
    for data in (frame, with_nan, rows, Rows(), {**GAPPY, "another": [0] * len(X)}):
        assert same_weights(toys.build(VAE).fit(data), trained)


def test_gaps_are_not_zeros(toys: Engine, trained: FusionModel) -> None:
    filled = {"x": [v or [0.0, 0.0] for v in GAPPY["x"]], "y": [v or [0.0] for v in GAPPY["y"]]}
    assert not same_weights(toys.build(VAE).fit(filled), trained)


def test_fit_learns_shapes_and_leaves_the_config_complete(toys: Engine, trained: FusionModel) -> None:
    fresh = toys.build(VAE)
    assert (fresh.config.modalities["x"].with_, fresh.config.modalities["y"].with_) == ({"size": 3}, {"length": 4})
    assert (trained.config.modalities["x"].with_, trained.config.modalities["y"].with_) == ({"size": 2}, {"length": 3})
    assert not same_weights(toys.build(trained.config), trained)
    assert [h["stage"] for h in trained.progress.history] == ["first", "first", "second"]
    assert not trained.graph.training


# Use, against the same computed by hand from the graph's modules


def posterior(model: FusionModel, row: Mapping[str, Any]) -> Posterior:
    """Encode one row by hand."""
    present, features = [], {}
    for name in ("x", "y"):
        raw = row.get(name)
        modality, encoder = model.modalities[name], cast(Any, model.graph[f"enc_{name}"])
        signal = modality.example(1) if raw is None else modality.collate([modality.prepare(raw)])
        features[f"enc_{name}"] = encoder(signal)
        present.append(raw is not None)
    return cast(Posterior, model.graph["post"](features, torch.tensor([present])))


def decoded(model: FusionModel, z: Tensor, to: str) -> Any:
    return model.modalities[to].restore(cast(Any, model.graph[f"dec_{to}"])(z, {}).mean)[0]


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_translate_decodes_what_the_given_row_says(trained: FusionModel) -> None:
    found = trained.translate({"x": X}, to="y")
    assert len(found) == len(X)
    for x, y in zip(X, found, strict=True):
        close(y, decoded(trained, posterior(trained, {"x": x}).z, "y"))
    both = trained.translate({"x": [X[0], None], "y": [None, Y[1]]}, to=["x", "y"])
    close(both["y"][0], found[0])
    close(both["x"][1], decoded(trained, posterior(trained, {"y": Y[1]}).z, "x"))


@torch.no_grad()
def test_reconstruct_uses_all_that_a_row_has(trained: FusionModel) -> None:
    found = trained.reconstruct(GAPPY)
    for i in range(len(X)):
        z = posterior(trained, {name: column[i] for name, column in GAPPY.items()}).z
        for name in ("x", "y"):
            close(found[name][i], decoded(trained, z, name))


@torch.no_grad()
def test_interpolation_goes_straight_from_one_row_to_the_other(trained: FusionModel) -> None:
    first, last = {"x": X[0], "y": Y[0]}, {"y": Y[2]}
    path = trained.interpolate(first, last, ["x", "y"], steps=5)
    ends = [posterior(trained, row).z for row in (first, last)]
    for step in range(5):
        z = (1 - step / 4) * ends[0] + step / 4 * ends[1]
        for name in ("x", "y"):
            close(path[name][step], decoded(trained, z, name))
    assert len(trained.interpolate(first, last, "x", steps=2)) == 2
    with pytest.raises(DataError, match="two ends"):
        trained.interpolate(first, last, "x", steps=1)
    with pytest.raises(FusionError, match="no decoder for 'z'"):
        trained.interpolate(first, last, "z")


def test_impute_fills_gaps_and_nothing_else(trained: FusionModel) -> None:
    rows = trained.impute({**GAPPY, "id": list(range(6))})
    for i, row in enumerate(rows):
        assert row["id"] == i
        for name, column in GAPPY.items():
            if column[i] is not None:
                assert row[name] is column[i]
    close(rows[4]["x"], trained.translate({"y": [Y[4]]}, to="x")[0])
    close(rows[1]["y"], trained.translate({"x": [X[1]]}, to="y")[0])
    assert trained.impute({"x": X, "y": Y}) == [{"x": x, "y": y} for x, y in zip(X, Y, strict=True)]


@torch.no_grad()
def test_a_row_without_anything_is_imputed_from_the_middle_of_the_prior(trained: FusionModel) -> None:
    (row,) = trained.impute([{}])
    close(row["x"], decoded(trained, torch.zeros(1, 2), "x"))


@torch.no_grad()
def test_latents_are_the_posteriors_means_or_draws(trained: FusionModel) -> None:
    z = trained.latents(GAPPY)
    wanted = [posterior(trained, {"x": GAPPY["x"][i], "y": GAPPY["y"][i]}).z for i in range(len(X))]
    torch.testing.assert_close(z, torch.cat(wanted))
    draws = [trained.latents(GAPPY, sample=True, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    torch.testing.assert_close(trained.latents(GAPPY, ["post", "post"]), torch.cat([z, z], 1))


@torch.no_grad()
def test_generate_draws_from_the_fitted_prior_or_the_one_named(trained: FusionModel) -> None:
    found = trained.generate(5, seed=3)
    assert {name: len(column) for name, column in found.items()} == {"x": 5, "y": 5}
    assert found == trained.generate(5, seed=3) == trained.generate(5, seed=3, prior="mixture")
    others = [trained.generate(5, **options) for options in ({"seed": 4}, {"seed": 3, "prior": "training"})]
    assert found not in others
    assert found != trained.generate(5, seed=3, sample=True)
    run = next(trained.runs([{}] * 5, seed=3))
    z = trained.graph.prior_of("post")(5).sampled(run.noise("generate").at("post")).z
    close(others[1]["x"][2], decoded(trained, z[2:3], "x"))
    with pytest.raises(FusionError, match=r"no fitted prior 'mixtur'\n.*did you mean 'mixture'"):
        trained.generate(1, prior="mixtur")


def test_an_unfitted_prior_is_not_used(toys: Engine) -> None:
    fresh = toys.build(VAE)
    assert fresh.generate(3) == fresh.generate(3, prior="training")


def test_many_rows_are_evaluated_in_chunks_that_do_not_matter(trained: FusionModel) -> None:
    many = trained.translate({"x": X * 50}, to="y")
    assert len(many) == 300
    close(many[-1], trained.translate({"x": [X[-1]]}, to="y")[0])
    draws = trained.generate(260)["x"]
    assert len({tuple(x) for x in draws}) == 260


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda m: m.translate({"z": X}, to="y"), "no modality 'z'"),
        (lambda m: m.translate({"x": X}, to="z"), "no modality 'z'"),
        (lambda m: m.translate({"x": X, "y": Y[:2]}, to="y"), "different lengths"),
        (lambda m: m.translate({"x": [[1.0]]}, to="y"), r"another size\n  where: row 0, modality 'x'"),
        (lambda m: m.translate({}, to="y"), "no rows"),
        (lambda m: m.generate(2, given={"x": X}), "'x' has another number of samples\n  expected: 2\n  actual: 6"),
        (lambda m: m.predict({"x": X}), "no head that predicts"),
    ],
)
def test_wrong_use_is_refused_in_words(trained: FusionModel, use: Any, message: str) -> None:
    with pytest.raises(FusionError, match=message):
        use(trained)


# Classifiers and conditions


def test_predict_says_the_likeliest_class(toys: Engine) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 2, generator=generator)
    labels: list[str | None] = ["left" if v < 0 else "right" for v in x[:, 0]]
    modalities = {"x": "modality/toys.vector", "label": "modality/category"}
    options = {"fusion": "concat", "epochs": 60, "lr": 0.01, "train": {"batch_size": 16}}
    model = toys.recipe("classifier", modalities, **options).fit({"x": x.tolist(), "label": [None, *labels[1:]]})
    found = model.predict({"x": x.tolist()})
    assert sum(a == b for a, b in zip(found, labels, strict=True)) >= 60
    p = model.predict_proba({"x": x.tolist()})
    torch.testing.assert_close(p.sum(1), torch.ones(64))
    assert [["left", "right"][i] for i in p.argmax(1)] == found
    with pytest.raises(FusionError, match="known: classify"):
        model.predict({"x": X}, head="nothing")
    with pytest.raises(FusionError, match=r"no decoder for 'x'"):
        model.translate({"label": ["left"]}, to="x")


def test_a_conditional_gan_generates_what_is_not_given(toys: Engine) -> None:
    modalities = {"x": "modality/toys.vector", "label": "modality/category"}
    model = toys.recipe("gan", modalities, given=["label"], latent=2, epochs=1, train={"batch_size": 4})
    model.fit({"x": X, "label": [0, 1, 2, 0, 1, 2]})
    found = model.generate(4, given={"label": [0, 1, 1, 2]}, seed=1)
    assert list(found) == ["x"]
    other = model.generate(4, given={"label": [1, 1, 1, 1]}, seed=1)
    assert found["x"][1:3] == other["x"][1:3]
    assert found["x"][0] != other["x"][0]
    assert found["x"][1] != found["x"][2]
    with pytest.raises(DataError, match="none of the classes"):
        model.generate(1, given={"label": [7]})


# Recipes, with one modality more or less


DIGITS = {"image": "modality/image", "label": "modality/category", "strokes": "modality/strokes"}
LIGHT: dict[str, Any] = {
    "image": {"encoder": ("encoder/image.conv", 4), "decoder": ("decoder/image.conv", 2)},
    "mirror": {"encoder": ("encoder/image.conv", 4), "decoder": ("decoder/image.conv", 2)},
}


def light(name: str) -> dict[str, Any]:
    """Small networks, for speed."""
    use = "modality/image" if name == "mirror" else DIGITS[name]
    parts = {part: {"use": use, "with": {"channels": c}} for part, (use, c) in LIGHT.get(name, {}).items()}
    return {"use": use, **parts}


@pytest.fixture(scope="module")
def digits(engine: Engine) -> list[Mapping[str, Any]]:
    part = {"use": "dataset/digits", "with": {"modalities": ["image", "mirror", "strokes", "label"], "missing": 0.3}}
    config = engine.recipe_config("vae", {"image": "modality/image"}, data=part)
    return list(engine.dataset(config).train[:12])


@pytest.mark.parametrize("names", [["image"], ["image", "mirror"], ["image", "label"], ["image", "strokes", "label"]])
@pytest.mark.parametrize("recipe", ["vae", "gan", "vae_gan", "classifier"])
def test_recipes_take_any_modalities(
    engine: Engine, digits: list[Mapping[str, Any]], recipe: str, names: list[str]
) -> None:
    options: dict[str, Any] = {"latent": 3}
    if recipe == "vae_gan":
        options["epochs"] = [1, 1, 1]
    if recipe == "classifier":
        options, names = {"fusion": "concat"}, [*names, "label"]
    if recipe == "gan" and names[-1] == "label":
        options["given"] = ["label"]
    options = {"epochs": 1, **options, "train": {"batch_size": 12}}
    model = engine.recipe(recipe, {name: light(name) for name in names}, **options).fit(digits)
    assert all(np.isfinite(v) for h in model.progress.history for v in h.values() if not isinstance(v, str))
    if recipe == "classifier":
        assert set(model.predict(digits)) <= set(range(10))
        with pytest.raises(FusionError, match="no decoder"):
            model.generate(2)
        return
    made = [n for n in names if n not in options.get("given", [])]
    given = {"label": cast(Any, model.modalities["label"]).classes[:2]} if "given" in options else None
    found = model.generate(2, given=given)
    assert list(found) == made
    assert all(np.shape(found[n][0]) == (8, 8) for n in ("image", "mirror") if n in found)
    assert not {x for x in found.get("label", []) if x not in range(10)}


def test_a_recipe_without_any_modality_left_is_refused(engine: Engine) -> None:
    with pytest.raises(FusionError, match="at least"):
        engine.recipe("vae", {})
    with pytest.raises(PluginError, match=r"no modality 'imag': did you mean 'image'.*\n  where: modality 'image'"):
        engine.recipe("vae", {"image": "modality/imag"})
    with pytest.raises(ConfigError, match="expected: use, with, encoder, decoder"):
        engine.recipe("vae", {"image": {"use": "modality/image", "wiht": {}}})
    with pytest.raises(ConfigError, match="a mapping from name to component"):
        engine.recipe("vae", cast(Any, ["image"]))
    with pytest.raises(ConfigError, match="nothing to generate"):
        engine.recipe("gan", {"image": "modality/image"}, given=["image"])
    with pytest.raises(ConfigError, match=r"there is no modality 'imag'\n.*'given'\n.*did you mean 'image'"):
        engine.recipe("gan", {"image": "modality/image"}, given=["imag"])
    with pytest.raises(ConfigError, match=r"(?s)unknown key 'latnt'.*recipe 'vae'"):
        engine.recipe("vae", {"image": "modality/image"}, latnt=3)


def test_any_word_may_name_a_node(toys: Engine, tmp_path: Path) -> None:
    renamed = {"enc_x": "forward", "enc_y": "type", "dec_x": "values", "kl": "train", "x": "keys", "y": "items"}
    text = yaml.safe_dump({k: v for k, v in VAE.items() if k != "train"})
    for old, new in renamed.items():
        text = re.sub(rf"(?<![/\w]){old}\b", new, text)
    model = toys.build(yaml.safe_load(text)).fit({"keys": X, "items": Y})
    assert {"forward", "type", "values"} <= set(model.graph.wiring.nodes)
    assert toys.load(model.save(tmp_path / "model")).generate(2) == model.generate(2)


def test_a_modality_is_dropped_by_its_lines_in_the_config(toys: Engine) -> None:
    config = copy.deepcopy(VAE)
    del config["modalities"]["y"], config["nodes"]["enc_y"], config["nodes"]["dec_y"]
    config["nodes"]["post"]["in"].remove("enc_y")
    assert list(toys.build(config).fit(GAPPY).generate(2)) == ["x"]


def test_another_modality_of_the_same_kind_is_added_by_its_lines_in_the_config(toys: Engine) -> None:
    config = copy.deepcopy(VAE)
    config["modalities"]["x2"] = {"use": "modality/toys.vector"}
    config["nodes"] |= {
        "enc_x2": {"use": "encoder/toys.mlp", "in": "x2"},
        "dec_x2": {"use": "decoder/toys.mlp", "in": {"z": "post"}, "out": "x2"},
    }
    config["nodes"]["post"]["in"].append("enc_x2")
    model = toys.build(config).fit({**GAPPY, "x2": [[1.0, 2.0, 3.0, 4.0]] * 6})
    assert [len(v[0]) for v in model.generate(2).values()] == [2, 3, 4]


# Saving and loading

AGAIN = """
import json, sys
from fusion_engine import Engine
toys, traps, *folders = sys.argv[1:]
said = []
for folder in folders:
    model = Engine(plugins=[toys, traps]).load(folder)
    given = {"x": [[0.5, 0.25], [1.0, -1.0]]}
    said.append([model.generate(3, seed=1), model.generate(2, sample=True), model.translate(given, to=["x", "y"])])
print(json.dumps(said))
"""


def tied(toys: Engine) -> FusionModel:
    config = copy.deepcopy(VAE)
    config["nodes"]["enc_x"] = {"use": "encoder/traps.tied", "in": "x"}
    model = Engine(plugins=[TOYS, TRAPS]).build(config).fit(GAPPY)
    encoder = cast(Any, model.graph["enc_x"])
    assert encoder.first.weight is encoder.second.weight
    return model


def test_a_new_process_gives_the_same_bit_for_bit(toys: Engine, trained: FusionModel, tmp_path: Path) -> None:
    models = {"plain": trained, "tied": tied(toys)}
    folders = [str(model.save(tmp_path / name)) for name, model in models.items()]
    command = [sys.executable, "-W", "error", "-c", AGAIN, str(TOYS), str(TRAPS), *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for model, said in zip(models.values(), json.loads(done.stdout), strict=True):
        given = {"x": [[0.5, 0.25], [1.0, -1.0]]}
        wanted = [model.generate(3, seed=1), model.generate(2, sample=True), model.translate(given, to=["x", "y"])]
        assert said == wanted


def test_what_is_saved(toys: Engine, trained: FusionModel, tmp_path: Path) -> None:
    folder = trained.save(tmp_path / "model")
    names = {"config.yaml", "model.safetensors", "plugins.json", "metrics.json", "README.md"}
    assert {path.name for path in folder.iterdir()} == names
    for path in folder.iterdir():
        assert not path.read_bytes().startswith((b"\x80", b"PK"))
    with safe_open(folder / "model.safetensors", "pt") as file:
        saved = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
    live = trained.graph.state_dict()
    assert saved.keys() == live.keys()
    assert all(torch.equal(saved[key], live[key]) for key in live)
    plugins = json.loads((folder / "plugins.json").read_text())
    assert plugins.keys() == {"toys", "generative"}
    assert plugins["generative"]["distribution"] == "fusion-engine"
    assert plugins["toys"]["origin"] == str(TOYS.resolve())
    assert "decoder/toys.line" in plugins["toys"]["components"]


def test_the_saved_config_has_full_names_and_every_default(toys: Engine, trained: FusionModel, tmp_path: Path) -> None:
    plain = yaml.safe_load((trained.save(tmp_path / "model") / "config.yaml").read_text())
    assert read_config(plain) == trained.config
    parts = [*plain["modalities"].values(), *plain["nodes"].values(), *plain["losses"].values()]
    for part in parts:
        assert part["use"] in toys.registry.entries
        target = toys.registry.resolve(part["use"]).load()
        assert part["with"].keys() == config_model(target).model_fields.keys()
    assert plain["nodes"]["post"]["use"] == "posterior/generative.poe"
    mixture = {"latent": 2, "components": 2, "draws": 1, "infer": False, "candidates": 1}
    assert plain["nodes"]["mixture"]["with"] == mixture
    assert plain["train"]["optimizer"]["generator"]["lr"] == 1e-3
    assert plain["stages"][0]["learn"] == ["*"]


def test_the_model_card_names_the_parts(trained: FusionModel, tmp_path: Path) -> None:
    trained.metrics["coherence"] = 0.75
    card = (trained.save(tmp_path / "model") / "README.md").read_text()
    assert card.startswith("# two toys\n")
    size = sum(p.numel() for p in trained.graph["enc_x"].parameters())
    for part in (
        "x, y",
        f"| enc_x | encoder/toys.mlp | x | {size} |",
        "| post | posterior/generative.poe | enc_x, enc_y |",
        "- first: 2 steps of reconstruction",
        "- second: 1 epochs of reconstruction, kl",
        "- coherence: 0.75",
        "Engine().load(",
    ):
        assert part in card


def test_a_loaded_model_goes_on_where_it_was(toys: Engine, trained: FusionModel, tmp_path: Path) -> None:
    folder = trained.save(tmp_path / "model")
    loaded = toys.load(folder)
    assert same_weights(loaded, trained)
    with torch.no_grad():
        assert same_weights(toys.load(folder), trained)
    assert loaded.config == trained.config
    assert loaded.metrics == trained.metrics
    loaded.fit(GAPPY)
    assert moved(trained.graph["enc_x"], loaded.graph["enc_x"])


def test_a_missing_plugin_is_named_with_what_to_install(toys: Engine, trained: FusionModel, tmp_path: Path) -> None:
    folder = trained.save(tmp_path / "model")
    with pytest.raises(PluginError) as caught:
        Engine().load(folder)
    assert "needs the plugin 'toys'" in str(caught.value)
    assert f"give its file: --plugin {TOYS}, or Engine(plugins=[" in str(caught.value)
    with pytest.raises(PluginError, match=r"(?s)'generative'.*is blocked.*pip install fusion-engine=="):
        Engine(plugins=[TOYS], block=["generative"]).load(folder)
    saved = json.loads((folder / "plugins.json").read_text())
    acme = {"distribution": "acme-fusion", "version": "1.5", "origin": "acme", "components": ["fusion/acme.mine"]}
    (folder / "plugins.json").write_text(json.dumps({**saved, "acme": acme}))
    with pytest.raises(PluginError, match=r"(?s)'acme'.*fusion/acme.mine.*pip install acme-fusion==1.5"):
        toys.load(folder)


def test_what_is_no_model_is_refused(toys: Engine, trained: FusionModel, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere", TOYS):
        with pytest.raises(FusionError, match="is no saved model"):
            toys.load(path)
    folder = trained.save(tmp_path / "model")
    weights = (folder / "model.safetensors").read_bytes()
    for content in (b"", weights[:-8], b"\x80\x04\x95"):
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(FusionError, match="weights"):
            toys.load(folder)
    other = copy.deepcopy(VAE)
    other["nodes"]["enc_x"]["with"] = {"hidden": 7}
    (folder / "model.safetensors").write_bytes(
        (toys.build(other).save(tmp_path / "o") / "model.safetensors").read_bytes()
    )
    with pytest.raises(FusionError, match=r"(?s)do not fit.*install the versions in plugins\.json"):
        toys.load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FusionError, match="weights"):
        toys.load(folder)
    (folder / "config.yaml").unlink()
    with pytest.raises(FusionError, match=r"config\.yaml cannot be read"):
        toys.load(folder)
    for text in ("{", "[]", ""):
        (folder / "plugins.json").write_text(text)
        with pytest.raises(FusionError, match=r"plugins\.json"):
            toys.load(folder)


# Interrupts and hooks


class Interrupt(Callback):
    def on_step_end(self, trainer: Any, metrics: Mapping[str, float]) -> None:
        raise KeyboardInterrupt


def test_an_interrupt_leaves_a_usable_model(toys: Engine, tmp_path: Path) -> None:
    model = toys.build(VAE).fit(GAPPY, callbacks=[Interrupt()])
    assert model.metrics["interrupted"] is True
    assert model.progress.step == 1
    assert not model.graph.training
    assert bool(cast(Any, model.graph["mixture"]).fitted)
    assert model.generate(2) == toys.load(model.save(tmp_path / "model")).generate(2)


HOOKS = """
from fusion_engine import hookimpl
CALLS = []
@hookimpl
def register_components(registry): ...
@hookimpl
def modify_config(config, context):
    CALLS.append("modify_config")
    config["nodes"]["post"]["with"]["latent"] = 5
@hookimpl
def graph_built(graph, context):
    CALLS.append(f"graph_built {len(graph.wiring.nodes)} {context.config.nodes['post'].with_['latent']}")
    graph["dec_y"].requires_grad_(False)
@hookimpl
def configure_callbacks(model, config, context):
    from fusion_engine.training import Callback
    class Count(Callback):
        def on_step_end(self, trainer, metrics):
            CALLS.append("step")
    CALLS.append(f"configure_callbacks {type(model).__name__} {config.name}")
    return [Count()]
@hookimpl
def stage_started(stage, model, context):
    CALLS.append(f"stage_started {stage.name} {model.progress is not None}")
"""


def moved(before: nn.Module, after: nn.Module) -> set[str]:
    """Names of the tensors that training has changed."""
    state = after.state_dict()
    return {name for name, value in before.state_dict().items() if not torch.equal(value, state[name])}


def test_hooks_are_called_at_their_moments(toys: Engine, tmp_path: Path) -> None:
    path = tmp_path / "hooked.py"
    path.write_text(HOOKS)
    engine = Engine(plugins=[TOYS, path])
    calls: list[str] = cast(Any, engine.plugins.manager.get_plugin("hooked")).CALLS
    model = engine.build(VAE)
    assert calls == ["modify_config", "graph_built 6 5"]
    assert model.config.nodes["post"].with_["latent"] == 5
    assert VAE["nodes"]["post"]["with"]["latent"] == 2
    calls.clear()
    model.fit(GAPPY)  # shapes are learned, and the graph is built for them
    assert calls == [
        "graph_built 6 5",
        "configure_callbacks FusionModel two toys",
        "stage_started first True",
        "step",
        "step",
        "stage_started second True",
        "step",
    ]
    start, end = toys.build(model.config).graph, model.graph
    assert moved(start["dec_y"], end["dec_y"]) == set()
    assert moved(start["dec_x"], end["dec_x"])
    folder = model.save(tmp_path / "model")
    calls.clear()
    assert engine.load(folder).config == model.config
    assert calls == ["graph_built 6 5"]


def test_the_seed_fixes_everything(toys: Engine, trained: FusionModel) -> None:
    torch.manual_seed(77)
    assert same_weights(toys.build(VAE).fit(GAPPY), trained)
    other = copy.deepcopy(VAE)
    other["train"]["seed"] = 1
    assert not same_weights(toys.build(other).fit(GAPPY), trained)
