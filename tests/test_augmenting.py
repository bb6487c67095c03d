"""Generated rows stand behind the real ones, whole, balanced, and the best of them by the model's own word."""

import math
from collections import Counter
from typing import Any, cast

import pytest
import torch

from fusion_engine import DataError, Engine, FusionError, FusionModel
from fusion_engine.augmenting import scores

CLASSES = ["a", "b", "c"]
LABEL = {"use": "modality/category", "with": {"classes": CLASSES}}
VECTOR = {"use": "modality/toys.vector", "with": {"size": 2}}
ROWS = {"x": [[0.5, 1.0], [0.0, -1.0]], "label": ["a", None], "weight": [3, 4]}


@pytest.fixture(scope="module")
def conditional(toys: Engine) -> FusionModel:
    return toys.recipe("gan", {"x": VECTOR, "label": LABEL}, given=["label"], latent=2)


@pytest.fixture(scope="module")
def joint(toys: Engine) -> FusionModel:
    return toys.recipe("vae", {"x": VECTOR, "label": LABEL}, posterior="poe", latent=2, components=0)


@pytest.fixture(scope="module")
def decoding(toys: Engine) -> FusionModel:
    """A VAE that decodes the label from z and never encodes it."""
    nodes = {
        "enc": {"use": "encoder/toys.mlp", "in": "x"},
        "post": {"use": "posterior/gaussian", "in": "enc", "with": {"latent": 2}},
        "dec_x": {"use": "decoder/toys.mlp", "in": {"z": "post"}, "out": "x"},
        "dec_label": {"use": "decoder/tabular.logits", "in": {"z": "post"}, "out": "label"},
    }
    model = toys.build({"modalities": {"x": VECTOR, "label": LABEL}, "nodes": nodes})
    torch.nn.init.normal_(
        cast(Any, model.graph["dec_label"]).body[-1].weight, generator=torch.Generator().manual_seed(0)
    )
    torch.nn.init.zeros_(cast(Any, model.graph["dec_label"]).body[-1].bias)
    return model


def test_real_rows_come_first_and_generated_ones_are_whole(joint: FusionModel) -> None:
    found = joint.augment(ROWS, 5, seed=3)
    assert len(found) == 7
    assert found.generated == [False, False, *[True] * 5]
    assert found.rows[:2] == [
        {"x": [0.5, 1.0], "label": "a", "weight": 3},
        {"x": [0.0, -1.0], "label": None, "weight": 4},
    ]
    generated = joint.generate(5, seed=3)
    assert found.rows[2:] == [{"x": x, "label": y} for x, y in zip(generated["x"], generated["label"], strict=True)]
    assert joint.augment(ROWS, 5, seed=3) == found
    assert joint.augment(ROWS, 5, seed=4) != found
    joint.latents(found.rows)


@pytest.mark.parametrize("name", ["conditional", "joint", "decoding"])
@pytest.mark.parametrize("keep", [None, 0.5])
def test_classes_come_up_equally_often(name: str, keep: float | None, request: pytest.FixtureRequest) -> None:
    model: FusionModel = request.getfixturevalue(name)
    found = model.augment(ROWS, 10, balance="label", keep=keep)
    labels = [row["label"] for row in found.rows[2:]]
    assert Counter(labels) == {"a": 4, "b": 3, "c": 3}
    assert all(len(row["x"]) == 2 for row in found.rows)


def test_a_condition_goes_into_the_row_that_was_made_from_it(conditional: FusionModel) -> None:
    wanted = ["c", "a", "c"]
    found = conditional.augment(ROWS, 3, given={"label": wanted}).rows[2:]
    assert [row["label"] for row in found] == wanted
    assert [row["x"] for row in found] == conditional.generate(3, given={"label": wanted})["x"]


def test_what_is_encoded_gives_draws_of_z_that_differ_by_row(joint: FusionModel) -> None:
    found = joint.augment(ROWS, 6, given={"label": ["b"] * 6}).rows[2:]
    assert [row["label"] for row in found] == ["b"] * 6
    assert len({tuple(row["x"]) for row in found}) == 6


def test_the_discriminator_says_which_are_kept(conditional: FusionModel) -> None:
    everything = conditional.augment(ROWS, 12, given={"label": ["a", "b", "c"] * 4}).rows[2:]
    three = conditional.augment(ROWS, 3, given={"label": ["a", "b", "c"]}, keep=0.25).rows[2:]
    ranks = scores(conditional, everything)
    (run,) = conditional.runs(everything)
    torch.testing.assert_close(ranks, torch.nn.functional.logsigmoid(run.score("score")).detach())
    best = [max(range(i, 12, 3), key=lambda j: float(ranks[j])) for i in range(3)]
    assert sorted(row["label"] for row in three) == ["a", "b", "c"]
    assert {tuple(row["x"]) for row in three} == {tuple(everything[i]["x"]) for i in best}


def test_a_decoded_label_says_which_are_kept(decoding: FusionModel) -> None:
    rows = decoding.augment(ROWS, 8).rows[2:]
    found = scores(decoding, rows)
    (run,) = decoding.runs([{"x": row["x"]} for row in rows])
    probabilities = run["dec_label"].distribution.probs.detach()
    wanted = [math.log(float(probabilities[i, CLASSES.index(row["label"])])) for i, row in enumerate(rows)]
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_asked_is_refused(toys: Engine, joint: FusionModel, conditional: FusionModel) -> None:
    with pytest.raises(DataError, match=r"nothing to generate[\s\S]*at least 1"):
        joint.augment(ROWS, 0)
    with pytest.raises(DataError, match="`keep` is a share"):
        joint.augment(ROWS, 2, keep=1.5)
    with pytest.raises(DataError, match="either given or balanced"):
        joint.augment(ROWS, 2, given={"label": ["a", "b"]}, balance="label")
    with pytest.raises(FusionError, match="'x' has no classes to balance"):
        conditional.augment(ROWS, 2, balance="x")
    with pytest.raises(DataError, match="no modality 'lable'"):
        conditional.augment(ROWS, 2, balance="lable")
    alone = toys.recipe("vae", {"x": VECTOR}, latent=2, components=0)
    with pytest.raises(FusionError, match="nothing to score rows by"):
        alone.augment({"x": ROWS["x"]}, 2, keep=0.5)


def test_a_class_that_never_comes_up_is_said(decoding: FusionModel) -> None:
    bias = [p for p in cast(Any, decoding.graph["dec_label"]).parameters() if p.ndim == 1][-1]
    before = bias.data.clone()
    bias.data[2] = -1e4
    with pytest.raises(DataError, match=r"hardly generates[\s\S]*'c' missing"):
        decoding.augment(ROWS, 6, balance="label")
    bias.data = before
