"""Every recipe with a game takes every game, and augmentation where it offers it; the AE-GANs learn."""

from typing import Any

import pytest
import torch

from fusion_engine import ConfigError, Engine

GAMES = ("relativistic", "minimax", "non_saturating", "least_squares", "hinge", "wasserstein")
NUMBERS = {"use": "modality/tabular.number", "with": {"centre": [0.0, 0.0], "deviation": [1.0, 1.0]}}


@pytest.mark.parametrize("recipe", ["gan", "aae", "bigan", "alpha_gan", "vae_gan", "inverted_vae_gan"])
def test_every_game_is_built(recipe: str):
    engine = Engine()
    for game in GAMES:
        config = engine.recipe_config(recipe, {"x": NUMBERS}, game=game)
        used = {part["use"].rpartition(".")[2].rpartition("/")[2] for part in config["losses"].values()}
        assert game in used
        engine.build(config)


def test_augmentation_and_relative_weights_are_passed_on():
    image = {"image": {"use": "modality/image", "with": {"shape": [1, 8, 8]}}}
    chosen = {"modalities": {"image": ["translation"]}}
    for recipe, options in (("gan", {}), ("vae_gan", {"relative": True})):
        config = Engine().recipe_config(recipe, image, augment=chosen, **options)
        assert config["losses"]["adversarial"]["with"]["augment"] == chosen
        assert config["losses"]["adversarial"].get("relative_to") == ("reconstruction" if options else None)
        Engine().build(config)


def test_larsens_form_leaves_the_likelihood_to_the_first_stage():
    config = Engine().recipe_config("vae_gan", {"x": NUMBERS}, reconstruction=0.0)
    assert ["reconstruction" in stage["losses"] for stage in config["stages"]] == [True, False, False]
    for options in ({"matching": 0.0, "reconstruction": 0.0}, {"relative": True, "reconstruction": 0.0}):
        with pytest.raises(ConfigError, match="reconstruction"):
            Engine().recipe_config("vae_gan", {"x": NUMBERS}, **options)


def two_modes(n: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(3)
    sides = torch.randint(2, (n, 1), generator=g) * 2.0 - 1
    return torch.cat([2 * sides, -2 * sides], 1) + 0.3 * torch.randn(n, 2, generator=g)


@pytest.mark.parametrize("recipe", ["ae_gan", "inverted_vae_gan"])
def test_it_learns_to_reconstruct_and_to_generate(recipe: str):
    data = two_modes(512)
    small: dict[str, Any] = {"latent": 2, "width": 16, "components": 0, "epochs": [25, 10], "warmup_steps": 0}
    config = Engine().recipe_config(recipe, {"x": "modality/tabular.number"}, beta=0.1, **small)
    config["train"] |= {"batch_size": 64, "seed": 2}
    model = Engine().build(config)
    model.fit({"x": list(data.numpy())})
    again = torch.tensor([list(x) for x in model.reconstruct({"x": list(data.numpy())})["x"]])
    assert float((again - data).square().mean()) < 0.2 * float(data.square().mean())
    made = torch.tensor([list(x) for x in model.generate(400)["x"]])
    left = float((made[:, 0] < 0).double().mean())
    assert 0.2 < left < 0.8
    assert float((made[:, 0] * made[:, 1] < 0).double().mean()) > 0.8  # the two numbers have opposite signs


def told_by_introspection(weight: float) -> float:
    """Train a VAE, then with introspection; KL of what is inferred from generated rows over that from real ones."""
    config = Engine().recipe_config("vae", {"x": "modality/tabular.number"}, latent=2, components=0, epochs=10)
    config["losses"]["intro"] = {"use": "loss/introspective", "with": {"margin": 20.0, "weight": weight}}
    config["players"] = {"discriminator": ["enc_*", "post"]}
    config["stages"] += [{"name": "intro", "epochs": 15, "losses": ["reconstruction", "kl", "intro"]}]
    config["train"] = {"batch_size": 64, "optimizer": {"generator": {"lr": 1e-3}, "discriminator": {"lr": 1e-3}}}
    model = Engine().build(config)
    model.fit({"x": list(two_modes(512).numpy())})
    last = model.progress.history[-1]
    return float(last["discriminator/intro.fake"]) / float(last["discriminator/intro.real"])


def test_introspection_tells_generated_rows_from_real_ones_by_their_kl():
    assert told_by_introspection(1.0) > told_by_introspection(0.0) + 0.3
