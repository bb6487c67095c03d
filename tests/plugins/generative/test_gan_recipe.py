"""What the options of the recipe gan write into a config."""

import pytest

from fusion_engine import ConfigError, Engine
from fusion_engine.config import read_config

PARTS = {"image": "modality/image", "label": "modality/category"}


def test_the_discriminators_steps_are_turns(engine: Engine):
    config = read_config(engine.recipe_config("gan", PARTS, discriminator_steps=3))
    assert (config.train.turns.discriminator, config.train.turns.generator) == (3, 1)


def test_spectral_norm_is_the_discriminators_alone(engine: Engine):
    nodes = engine.recipe_config("gan", PARTS, given=["label"], spectral_norm=True, discriminator="both")["nodes"]
    normal = {name for name, node in nodes.items() if node.get("spectral_norm")}
    assert normal == {"disc_image", "disc_label", "disc_all", "score", "score_image", "score_label"}
    nodes = engine.recipe_config("gan", PARTS)["nodes"]
    assert not any("spectral_norm" in node for node in nodes.values())


def test_a_mapping_stands_between_the_noise_and_every_decoder(engine: Engine):
    nodes = engine.recipe_config("gan", PARTS, mapping=3, latent=8)["nodes"]
    assert nodes["mapping"]["in"] == "noise"
    assert nodes["mapping"]["with"] == {"width": 8, "depth": 2, "activation": "leaky_relu"}
    assert [nodes[f"dec_{m}"]["in"]["z"] for m in PARTS] == [["mapping"]] * 2
    assert [engine.recipe_config("gan", PARTS, latent=8)["nodes"][f"dec_{m}"]["in"]["z"] for m in PARTS] == [
        ["noise"]
    ] * 2


def test_learning_rate_and_penalties(engine: Engine):
    config = read_config(engine.recipe_config("gan", PARTS, lr=5e-4, r1=0.1, r2=0.2))
    assert {o.lr for o in config.train.optimizer.values()} == {5e-4}
    assert config.losses["adversarial"].with_ | {"r1": 0.1, "r2": 0.2} == config.losses["adversarial"].with_
    losses = engine.recipe_config("gan", PARTS, game="wasserstein", discriminator="both")["losses"]
    assert all(set(loss["with"]) == {"score"} for loss in losses.values())
    with pytest.raises(ConfigError, match="mapping"):
        engine.recipe_config("gan", PARTS, mapping=-1)


@pytest.mark.parametrize("game", ["minimax", "non_saturating", "least_squares", "hinge", "wasserstein", "relativistic"])
def test_every_game_can_be_played(engine: Engine, game: str):
    sized = {"image": {"use": "modality/image", "with": {"shape": [1, 4, 4]}}}
    loss = engine.recipe("gan", sized, game=game, discriminator_steps=2, mapping=1, spectral_norm=True)
    assert loss.config.losses["adversarial"].use == f"loss/generative.{game}"
