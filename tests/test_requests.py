"""What a model is asked for and cannot give is refused in words, never answered with something else."""

import re
from typing import Any

import pandas as pd
import pytest

from fusion_engine import ConfigError, DataError, Engine, FusionError, FusionModel, Table, TrainingError

SIZES = {"left": 3, "right": 2}
VECTORS: dict[str, Any] = {m: {"use": "modality/toys.vector", "with": {"size": n}} for m, n in SIZES.items()}
LEFT, RIGHT = [[0.1, 0.2, 0.3], [1.0, 0.0, -1.0]], [[1.0, 2.0], [0.5, 0.5]]


@pytest.fixture(scope="module")
def vae(toys: Engine) -> FusionModel:
    return toys.recipe("vae", VECTORS, latent=2, components=0)


@pytest.fixture(scope="module")
def gan(toys: Engine) -> FusionModel:
    return toys.recipe("gan", VECTORS, latent=2)


@pytest.fixture(scope="module")
def conditional(toys: Engine) -> FusionModel:
    return toys.recipe("gan", {**VECTORS, "third": VECTORS["left"]}, given=["left"], latent=2)


@pytest.fixture(scope="module")
def classifier(toys: Engine) -> FusionModel:
    label = {"use": "modality/category", "with": {"classes": ["a", "b"]}}
    return toys.recipe("classifier", {"left": VECTORS["left"], "label": label})


def test_a_gan_does_not_pretend_to_translate_impute_or_reconstruct(gan: FusionModel) -> None:
    with pytest.raises(FusionError, match=r"nothing of left reaches the decoder of 'right'[\s\S]*use generate"):
        gan.translate({"left": LEFT}, to="right")
    with pytest.raises(FusionError, match="no decoder or head makes right"):
        gan.impute({"left": LEFT, "right": [None, RIGHT[0]]})
    with pytest.raises(FusionError, match="nothing is reconstructed"):
        gan.reconstruct({"left": LEFT})
    with pytest.raises(FusionError, match="no posterior"):
        gan.latents({"left": LEFT})


def test_what_is_given_must_condition_something(vae: FusionModel, conditional: FusionModel) -> None:
    assert len(conditional.generate(2, given={"left": LEFT})["right"]) == 2
    for model, given in ((vae, {"left": LEFT}), (conditional, {"left": LEFT, "right": RIGHT})):
        with pytest.raises(FusionError, match=r"conditions nothing[\s\S]*use translate"):
            model.generate(2, given=given)


@pytest.mark.parametrize("ask", ["impute", "reconstruct", "latents"])
def test_a_misspelt_column_is_not_taken_for_a_gap(vae: FusionModel, ask: str) -> None:
    with pytest.raises(DataError, match=r"no modality 'lefft'[\s\S]*did you mean 'left'"):
        getattr(vae, ask)({"lefft": LEFT, "right": RIGHT})
    with pytest.raises(DataError, match="no column is a modality"):
        getattr(vae, ask)({"price": [1, 2]})
    beside = {"left": LEFT, "right": RIGHT, "price": [1, 2]}
    assert len(getattr(vae, ask)(beside)) == 2


def test_rows_do_as_well_as_columns_and_one_posterior_as_well_as_a_list(vae: FusionModel) -> None:
    rows = [{"left": x} for x in LEFT]
    assert vae.translate(rows, to="right") == vae.translate({"left": LEFT}, to="right")
    assert vae.latents(rows, "post").equal(vae.latents(rows, ["post"]))
    with pytest.raises(FusionError, match=r"no posterior 'pots'[\s\S]*'post'"):
        vae.latents(rows, "pots")


def test_a_head_fills_the_gaps_of_what_it_predicts(classifier: FusionModel) -> None:
    filled = classifier.impute({"left": LEFT, "label": ["b", None]})
    assert filled[0]["label"] == "b"
    assert filled[1]["label"] == classifier.predict({"left": LEFT})[1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"left": 5}, "no list of cells"),
        ({"left": (x for x in LEFT)}, "no list of cells"),
        ({"left": "ab"}, "no list of cells"),
        (pd.DataFrame([[1, 2]], columns=["left", "left"]), "two columns are called 'left'"),
    ],
)
def test_what_is_no_column_is_refused(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Table(data)


def test_nodes_of_no_player_are_refused(toys: Engine) -> None:
    config = toys.recipe_config("gan", VECTORS)
    config["players"] = {"discriminator": ["disc_*", "score"], "generator": ["dec_left"]}
    with pytest.raises(ConfigError, match=r"belong to no player[\s\S]*dec_right"):
        toys.check(config)


def test_a_player_that_learns_nothing_stops_after_one_epoch(toys: Engine) -> None:
    config = toys.recipe_config("vae_gan", VECTORS, latent=2, matching=0.0, epochs=[1, 1, 1], components=0)
    config["stages"] = [{"name": "idle", "epochs": 5, "losses": ["adversarial"], "learn": ["enc_*", "post"]}]
    model = toys.build(config)
    with pytest.raises(TrainingError, match=re.escape("the generator learns nothing")) as error:
        model.fit({"left": LEFT * 4, "right": RIGHT * 4})
    assert "stage 'idle'" in str(error.value)
