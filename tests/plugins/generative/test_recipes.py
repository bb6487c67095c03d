"""The recipes' configs learn what they promise, on toys of two numbers a modality."""

import pytest
import torch
from torch import Tensor

from fusion_engine import ConfigError, Engine, FusionError, FusionModel, Noise, Run
from fusion_engine.data import Prepared, Table, collate
from fusion_engine_generative.recipes.parts import PREDICTS

Rows = dict[str, list[object]]
PART = {
    "use": "modality/toys.vector",
    "with": {"size": 2},
    "encoder": {"use": "encoder/toys.mlp", "with": {"hidden": 32, "width": 16}},
    "decoder": {"use": "decoder/toys.mlp", "with": {"hidden": 32}},
}


def trained(engine: Engine, recipe: str, data: Rows, *, lr: float, momentum: float = 0.5, **options) -> FusionModel:
    players = {
        "generator": {"lr": lr, "betas": [momentum, 0.99]},
        "discriminator": {"lr": lr, "betas": [0.0, 0.99]},
    }
    train = {"batch_size": 64, "ema_half_life": 500, "optimizer": players}
    parts = dict.fromkeys(("x", "y"), PART) | ({"label": "modality/category"} if "label" in data else {})
    return engine.recipe(recipe, parts, latent=2, width=32, train=train, **options).fit(data)


def plane(n: int, seed: int, gaps: float = 0.0) -> Rows:
    """x = 2 (a, b) and y = 2 (b, a^2): x tells y, y does not tell the sign of a."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(2, n, generator=generator) * 2 - 1).unbind()
    lack = torch.rand(n, generator=generator)
    columns = {"x": torch.stack([2 * a, 2 * b], 1), "y": torch.stack([2 * b, 2 * a * a], 1)}
    missing = {"x": lack < gaps / 2, "y": lack > 1 - gaps / 2}
    return {m: [None if gone else row for row, gone in zip(columns[m].tolist(), missing[m])] for m in columns}


def pairs(n: int, seed: int) -> Rows:
    """Two modes, the same one in both modalities."""
    generator = torch.Generator().manual_seed(seed)
    side = torch.randint(0, 2, (n, 1), generator=generator) * 2.0 - 1
    noise = 0.2 * torch.randn(2, n, 2, generator=generator)
    return {
        "x": (side * torch.tensor([1.0, 1.0]) + noise[0]).tolist(),
        "y": (side * torch.tensor([-1.0, 1.0]) + noise[1]).tolist(),
    }


def error(found: object, real: object) -> float:
    """Mean squared error as a share of the variance."""
    made, true = torch.tensor(found), torch.tensor(real)
    return float((made - true).pow(2).mean() / true.var(0).mean())


def from_normal(z: Tensor) -> float:
    """How far mean and covariance are from those of N(0, I)."""
    return float(z.mean(0).pow(2).sum() + (torch.cov(z.T) - torch.eye(z.shape[1])).pow(2).sum())


TEST = plane(400, seed=1)


@pytest.fixture(scope="module")
def plain(toys: Engine) -> FusionModel:
    data = plane(512, seed=0, gaps=0.3)
    label = [None if row is None else "high" if row[1] > 0 else "low" for row in data["x"]]
    return trained(toys, "autoencoder", {**data, "label": label}, lr=1e-2, epochs=25, target="label")


def test_the_autoencoder_reconstructs_translates_imputes_and_predicts(plain):
    made = plain.reconstruct(TEST)
    assert error(made["x"], TEST["x"]) < 0.1
    assert error(made["y"], TEST["y"]) < 0.2
    assert error(plain.translate({"x": TEST["x"]}, to="y"), TEST["y"]) < 0.5
    half = [{"x": x, "y": None, "label": None} for x in TEST["x"]]
    filled = plain.impute(half)
    assert [row["y"] for row in filled] == plain.translate({"x": TEST["x"]}, to="y")
    right = [row["label"] == ("high" if row["x"][1] > 0 else "low") for row in filled]
    assert sum(right) > 0.95 * len(right)
    assert plain.features(TEST, "code").shape == (400, 2)


def test_the_autoencoder_says_what_it_cannot(plain):
    with pytest.raises(FusionError, match=r"(?s)nothing to draw from.*translate, reconstruct or impute"):
        plain.generate(2)
    with pytest.raises(FusionError, match="no posterior"):
        plain.latents(TEST)


@pytest.mark.parametrize(("recipe", "epochs"), [("vae_gan", [20, 2, 8]), ("inverted_vae_gan", [24, 6])])
def test_complete_rows_teach_the_experts_of_a_jmvae(toys, recipe, epochs):
    model = trained(toys, recipe, plane(512, seed=0), lr=1e-2, epochs=epochs, posterior="jmvae", beta=0.1)
    made = model.translate({"x": TEST["x"]}, to="y")
    assert error(made, TEST["y"]) < 0.2  # .04; .96 by experts that nothing teaches
    assert error(model.reconstruct(TEST)["y"], TEST["y"]) < 0.3


def test_a_recipe_infers_under_the_mixture_it_fits(toys):
    model = toys.recipe("vae_gan", dict.fromkeys("xy", PART), posterior="poe", components=4, infer=True)
    assert model.graph["mixture"].infers
    assert not toys.recipe("vae_gan", dict.fromkeys("xy", PART), components=4).graph["mixture"].infers
    with pytest.raises(ConfigError, match=r"(?s)no mixture to infer under.*'components'"):
        toys.recipe("vae", dict.fromkeys("xy", PART), components=0, infer=True)


def test_codes_of_the_aae_are_more_like_the_prior_than_the_autoencoders(toys, plain):
    model = trained(toys, "aae", plane(512, seed=0, gaps=0.3), lr=4e-3, epochs=25, posterior="poe")
    codes = model.latents(TEST, sample=True)
    assert from_normal(codes) < 0.5
    assert from_normal(codes) < from_normal(plain.features(TEST, "code")) / 4
    assert error(model.reconstruct(TEST)["x"], TEST["x"]) < 0.3


def test_the_bigan_infers_what_it_generated_from(toys):
    model = trained(toys, "bigan", plane(512, seed=0), lr=4e-3, momentum=0.0, epochs=40)
    table = Prepared(Table(TEST), model.modalities)
    batch = collate([table[i] for i in range(len(table))], model.modalities)
    with torch.no_grad():
        view = Run(model.graph, batch, noise=Noise.of(len(batch), 5)).generated("prior")
        z, made = view["post"].z, {m: view[f"dec_{m}"].mean.data.tolist() for m in ("x", "y")}
    both = torch.corrcoef(torch.cat([z, model.latents(made)], 1).T)[:2, 2:]
    assert both.diagonal().min() > 0.8
    assert error(model.reconstruct(TEST)["x"], TEST["x"]) < 0.3


def test_samples_of_the_alpha_gan_cover_both_modes_and_agree(toys):
    options = {"posterior": "poe", "weight": 5.0, "r1": 0.01, "r2": 0.01}
    model = trained(toys, "alpha_gan", pairs(512, seed=0), lr=1e-2, epochs=[5, 30], **options)
    made = {m: torch.tensor(rows) for m, rows in model.generate(400).items()}
    modes = {"x": torch.tensor([1.0, 1.0]), "y": torch.tensor([-1.0, 1.0])}
    for side in (-1, 1):
        near = [((made[m] - side * mode).norm(dim=1) < 0.6) for m, mode in modes.items()]
        assert (near[0] & near[1]).float().mean() > 0.2, side


def test_a_capacity_holds_the_information_at_its_nats(toys):
    options = {"posterior": "poe", "capacity": 1.5, "capacity_steps": 50, "components": 0, "epochs": 20}
    train = {"batch_size": 64, "optimizer": {"generator": {"lr": 1e-2}}}
    model = toys.recipe("beta_vae", {"x": PART, "y": PART}, latent=2, train=train, **options).fit(plane(512, seed=0))
    (run, *_) = model.runs(TEST)
    assert run["post"].kl().mean().item() == pytest.approx(1.5, abs=0.15)


@pytest.mark.parametrize("use", PREDICTS)
def test_the_target_gets_the_head_that_fits_it(use):
    parts = {"image": "modality/image", "said": f"modality/{use}"}
    config = Engine().recipe_config("autoencoder", parts, target="said", supervised_weight=0.5)
    head, loss = PREDICTS[use]
    assert config["nodes"]["predict"] == {"use": f"head/{head}", "in": "code", "out": "said"}
    assert config["losses"]["supervised"] == {"use": f"loss/{loss}", "with": {"head": "predict", "weight": 0.5}}
    Engine().build(config)


def test_a_target_that_no_head_fits_is_refused_in_words():
    parts = {"image": "modality/image", "text": "modality/text"}
    with pytest.raises(FusionError, match="no head is known to predict 'text'"):
        Engine().recipe_config("autoencoder", parts, target="text")
    with pytest.raises(FusionError, match="there is no modality 'label'"):
        Engine().recipe_config("autoencoder", parts, target="label")
    with pytest.raises(FusionError, match="nothing to encode beside the target"):
        Engine().recipe_config("autoencoder", {"label": "modality/category"}, target="label")
