"""Gaps inside samples are filled as the model's own conditional says, and what is known stays bit for bit."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical

from fusion_engine import (
    DataError,
    DistributionLikelihood,
    Engine,
    FusionError,
    FusionModel,
    Signal,
)
from fusion_engine.inpainting import box, gap
from fusion_engine.masked import completed_text
from fusion_engine.masking import hide, surroundings
from fusion_engine_image.modality import Image
from fusion_engine_sequence.modality import Series
from fusion_engine_text.modality import Text

HERE = Path(__file__).parent
SIZE, LATENT, SCALE = 6, 2, 0.5
NUMBER = {"use": "modality/number", "with": {"centre": [0.0] * SIZE, "deviation": [1.0] * SIZE}}
KNOWN = torch.tensor([True, False, True, True, False, True])


# Against the conditional mean in closed form


@pytest.fixture(scope="module")
def linear() -> Engine:
    return Engine(plugins=[HERE / "linear.py"])


def weights(model: FusionModel) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    found = torch.randn(SIZE, LATENT, generator=generator)
    cast(Any, model.graph["dec"]).linear.weight.data = found
    return found


def samples(model: FusionModel, scale: float) -> tuple[Tensor, Tensor]:
    w, generator = weights(model), torch.Generator().manual_seed(1)
    z = torch.randn(5, LATENT, generator=generator)
    return w, z @ w.T + scale * torch.randn(5, SIZE, generator=generator)


def conditional_mean(w: Tensor, x: Tensor, scale: float) -> Tensor:
    w, x = w.double(), x.double()
    seen = w[KNOWN]
    inner = torch.linalg.inv(scale**2 * torch.eye(LATENT, dtype=torch.float64) + seen.T @ seen)
    found: Tensor = x[:, KNOWN] @ seen @ inner @ w[~KNOWN].T
    return found


@pytest.fixture(scope="module")
def exact(linear: Engine) -> FusionModel:
    """A VAE whose posterior is the exact one."""
    nodes = {
        "enc": {"use": "encoder/linear.identity", "in": "x"},
        "post": {"use": "posterior/gaussian", "in": "enc", "with": {"latent": LATENT}},
        "dec": {"use": "decoder/linear.linear", "in": {"z": "post"}, "out": "x", "with": {"scale": SCALE}},
    }
    model = linear.build({"modalities": {"x": NUMBER}, "nodes": nodes})
    w = weights(model)
    covariance = torch.linalg.inv(torch.eye(LATENT) + w.T @ w / SCALE**2)
    infer = cast(Any, model.graph["post"]).linear
    infer.weight.data = torch.cat([covariance @ w.T / SCALE**2, torch.zeros(LATENT, SIZE)])
    infer.bias.data = torch.zeros(2 * LATENT)
    return model


@pytest.fixture(scope="module")
def generator(linear: Engine) -> FusionModel:
    """A generator that starts from noise, and no encoder."""
    nodes = {
        "noise": {"use": "prior/normal", "with": {"latent": LATENT}},
        "dec": {"use": "decoder/linear.linear", "in": {"z": "noise"}, "out": "x"},
    }
    return linear.build({"modalities": {"x": NUMBER}, "nodes": nodes})


def test_rounds_of_encoding_come_to_the_conditional_mean(exact: FusionModel) -> None:
    w, x = samples(exact, SCALE)
    wanted = conditional_mean(w, x, SCALE)
    masks = {"x": [KNOWN] * len(x)}
    far = exact.inpainted_signals({"x": x}, masks, rounds=1)["x"].data
    found = exact.inpainted_signals({"x": x}, masks, rounds=200)["x"].data
    assert torch.equal(found[:, KNOWN], x[:, KNOWN])
    torch.testing.assert_close(found[:, ~KNOWN].double(), wanted, rtol=1e-4, atol=1e-4)
    assert (far[:, ~KNOWN] - wanted).abs().max() > 0.1


@pytest.mark.parametrize("name", ["exact", "generator"])
def test_the_search_finds_the_latent_that_made_the_sample(name: str, request: pytest.FixtureRequest) -> None:
    model: FusionModel = request.getfixturevalue(name)
    w, x = samples(model, 0.0)
    how: dict[str, Any] = {"method": "optimise", "steps": 400, "prior_weight": 0.0}
    before = {n: p.detach().clone() for n, p in model.graph.named_parameters()}
    spoilt = x.masked_fill(~KNOWN, 99.0)
    found = model.inpainted_signals({"x": spoilt}, {"x": [KNOWN] * len(x)}, **how)["x"].data
    torch.testing.assert_close(found, x, rtol=0, atol=2e-2)
    torch.testing.assert_close(found[:, ~KNOWN].double(), conditional_mean(w, x, 1e-4), rtol=0, atol=2e-2)
    assert all(p.grad is None and torch.equal(p, before[n]) for n, p in model.graph.named_parameters())


def test_rows_do_not_see_each_other_and_the_seed_decides(generator: FusionModel) -> None:
    _, x = samples(generator, SCALE)

    def found(rows: Tensor, seed: int = 0) -> Tensor:
        how: dict[str, Any] = {"method": "optimise", "steps": 20, "starts": 1, "seed": seed}
        return generator.inpainted_signals({"x": rows}, {"x": [KNOWN] * len(rows)}, **how)["x"].data

    assert torch.equal(found(x), found(x))
    assert not torch.equal(found(x), found(x, 1))
    spoilt = torch.cat([x[:2], x[2:] * 7])
    torch.testing.assert_close(found(spoilt)[:2], found(x)[:2])


def test_more_starts_reach_no_higher_objective(generator: FusionModel) -> None:
    _, x = samples(generator, SCALE)
    distance = []
    for starts in (1, 6):
        how: dict[str, Any] = {"method": "optimise", "steps": 3, "starts": starts, "prior_weight": 0.0}
        found = generator.inpainted_signals({"x": x}, {"x": [KNOWN] * len(x)}, **how)["x"].data
        distance.append((found - x)[:, ~KNOWN].abs().mean())
    assert distance[1] < distance[0]


def test_a_wholly_hidden_sample_is_a_missing_one(exact: FusionModel) -> None:
    _, x = samples(exact, SCALE)
    nothing = [torch.zeros(SIZE, dtype=torch.bool)] * len(x)
    found = exact.inpainted_signals({"x": x}, {"x": nothing}, rounds=3)["x"].data
    assert torch.equal(found, torch.zeros_like(x))  # the prior's mean decoded


# Images


@pytest.fixture(scope="module")
def digits(engine: Engine) -> dict[str, Any]:
    part = {"use": "dataset/digits", "with": {"modalities": ["image"], "validation": 0.0}}
    light = {
        "use": "modality/image",
        "encoder": {"use": "encoder/image.conv", "with": {"channels": 4}},
        "decoder": {"use": "decoder/image.conv", "with": {"channels": 6}},
    }
    train = {"batch_size": 50, "optimizer": {"generator": {"lr": 5e-3}}}
    options: dict[str, Any] = {"posterior": "gaussian", "latent": 8, "components": 0, "beta": 0.3, "warmup_steps": 20}
    model = engine.recipe("vae", {"image": light}, epochs=10, **options, data=part, train=train)
    data = engine.dataset(model.config)
    seen, test = list(data.train[:600]), list(data.test[:60])
    return {"model": model.fit(seen), "test": test, "mean": np.mean([row["image"] for row in seen], 0)}


@pytest.mark.parametrize("how", [{"rounds": 4}, {"method": "optimise", "steps": 60}], ids=["encode", "optimise"])
def test_a_hidden_quarter_of_a_digit_is_nearer_than_the_mean_image(digits: dict[str, Any], how: dict[str, Any]) -> None:
    model, test = digits["model"], digits["test"]
    known = box(8, 8, 2, 2, 4, 4)
    rows = [{"image": np.where(known, row["image"], 255), "another": 3} for row in test]
    found = model.inpaint(rows, {"image": [known] * len(rows)}, **how)
    hidden, real = ~known.numpy(), np.stack([row["image"] for row in test]).astype(float)
    error = np.mean([(row["image"] - x)[hidden] ** 2 for row, x in zip(found, real, strict=True)])
    assert error < 0.75 * np.mean((digits["mean"] - real)[:, hidden] ** 2)
    assert {row["another"] for row in found} == {3}
    signal = model.inpainted_signals(rows, {"image": [known] * len(rows)}, **how)["image"].data
    prepared = torch.stack([model.modalities["image"].prepare(row["image"]).data for row in rows])
    assert torch.equal(signal[:, :, known], prepared[:, :, known])


def test_a_row_without_a_mask_or_a_sample_stays_as_it_is(digits: dict[str, Any]) -> None:
    image = digits["test"][0]["image"]
    found = digits["model"].inpaint({"image": [image, None]}, {"image": [None, box(8, 8, 0, 0, 2, 2)]})
    assert found[0]["image"] is image
    assert found[1]["image"] is None


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(7, 8, dtype=torch.bool), r"row 1, modality 'image'[\s\S]*expected: bool \[8 8\] or \[1 8 8\]"),
        (torch.ones(8, 8), r"actual: float32 \[8 8\]"),
        (torch.ones(1, dtype=torch.bool), r"actual: bool \[1\]"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(digits: dict[str, Any], mask: Tensor, message: str) -> None:
    image = digits["test"][0]["image"]
    with pytest.raises(DataError, match=message):
        digits["model"].inpaint({"image": [image, image]}, {"image": [None, mask]})


def test_what_cannot_be_asked_is_refused(digits: dict[str, Any], generator: FusionModel) -> None:
    model, image = digits["model"], digits["test"][0]["image"]
    with pytest.raises(DataError, match="no modality 'imag'"):
        model.inpaint({"image": [image]}, {"imag": [None]})
    with pytest.raises(DataError, match=r"another number of samples[\s\S]*expected: 1"):
        model.inpaint({"image": [image]}, {"image": [None, None]})
    with pytest.raises(FusionError, match="no method 'optimize'"):
        model.inpaint({"image": [image]}, {"image": [None]}, method="optimize")
    with pytest.raises(FusionError, match="nothing leads from 'x'"):
        generator.inpaint({"x": torch.zeros(1, SIZE)}, {"x": [KNOWN]})
    with pytest.raises(DataError, match="'rounds' is too small"):
        model.inpaint({"image": [image]}, {"image": [None]}, rounds=0)
    with pytest.raises(DataError, match=r"rectangle[\s\S]*rows 6 to 10"):
        box(8, 8, 6, 0, 4, 4)
    with pytest.raises(DataError, match="gap does not lie"):
        gap(5, 3, 3)


# Sequences, sounds, texts: against the same computed from the graph's modules


@torch.no_grad()
def test_hidden_steps_are_decoded_from_the_known_ones(toys: Engine) -> None:
    ragged = {"use": "modality/toys.ragged", "with": {"length": 4}}
    model = toys.recipe("vae", {"y": ragged}, posterior="gaussian", latent=2, components=0)
    rows = [[1.0, 99.0, 3.0, -2.0], [0.5, -1.0]]
    found = model.inpainted_signals({"y": rows}, {"y": [gap(4, 1, 2), None]}, rounds=1)["y"]
    assert found.mask is not None
    assert found.mask.tolist() == [[True] * 4, [True, True, False, False]]
    graph: Any = model.graph
    seen = Signal(torch.tensor([[[1.0], [3.0], [-2.0]]]), torch.ones(1, 3, dtype=torch.bool))
    z = graph["post"]({"enc_y": graph["enc_y"](seen)}, torch.ones(1, 1, dtype=torch.bool)).z
    decoded = graph["dec_y"](z, {}).mean.data
    torch.testing.assert_close(found.data[0, 1], decoded[0, 1])
    assert found.data[0, [0, 2, 3], 0].tolist() == [1.0, 3.0, -2.0]
    assert model.inpaint({"y": rows}, {"y": [gap(4, 1, 2), None]})[1]["y"] is rows[1]
    searched = model.inpainted_signals({"y": rows}, {"y": [gap(4, 1, 2), None]}, method="optimise", steps=3)["y"]
    assert searched.data[0, [0, 2, 3], 0].tolist() == [1.0, 3.0, -2.0]


@torch.no_grad()
def test_hidden_frames_are_decoded_from_the_known_ones(engine: Engine) -> None:
    mel = {
        "use": "modality/audio.mel",
        "encoder": {"use": "encoder/audio.mel_cnn", "with": {"channels": 4, "width": 8, "pooled": 8}},
        "decoder": {"use": "decoder/audio.mel", "with": {"channels": 8}},
    }
    model = engine.recipe("vae", {"audio": mel}, posterior="gaussian", latent=2, components=0)
    audio: Any = model.modalities["audio"]
    sounds = [np.sin(np.arange(2000) * step).astype(np.float32) for step in (0.2, 0.5)]
    prepared = torch.stack([audio.prepare((s, audio.sample_rate)).data for s in sounds])
    known = gap(audio.frames, 3, 7)
    raw = {"audio": [(s, audio.sample_rate) for s in sounds]}
    found = model.inpainted_signals(raw, {"audio": [known, known]}, rounds=1)["audio"].data
    assert torch.equal(found[:, known], prepared[:, known])
    graph: Any = model.graph
    blank = Signal(prepared.masked_fill(~known[:, None], 0.0))
    z = graph["post"]({"enc_audio": graph["enc_audio"](blank)}, torch.ones(2, 1, dtype=torch.bool)).z
    torch.testing.assert_close(found[:, ~known], graph["dec_audio"](z, {}).mean.data[:, ~known])


def test_hidden_tokens_are_the_likeliest_that_let_the_text_go_on() -> None:
    logits = torch.tensor([[0.0, 9, 1, 2], [0, 9, 3, 2], [0, 1, 2, 5], [0, 9, 2, 1], [0, 9, 0, 0]])
    probabilities = logits.log_softmax(-1).expand(2, 5, 4)

    class Independent(DistributionLikelihood):
        def log_prob(self, signal: Signal) -> Tensor:
            return (signal.data * probabilities).sum((1, 2))

    likelihood = Independent(Categorical(logits=probabilities))
    ids = torch.tensor([[2, 3, 2, 1, 0], [2, 3, 3, 3, 1]])
    known = torch.tensor([[True, False, True, True, True], [True, True, True, False, False]])
    four = Text(length=5)  # padding, the end, a and b
    four.vocabulary = 4
    found = completed_text(likelihood, four, ids, known, torch.zeros_like(ids))
    assert found.tolist() == [[2, 2, 2, 1, 0], [2, 3, 3, 1, 0]]


def test_a_text_keeps_its_known_tokens(engine: Engine) -> None:
    words = {
        "use": "modality/text",
        "with": {"length": 8},
        "encoder": {"use": "encoder/text.transformer", "with": {"width": 8}},
        "decoder": {"use": "decoder/text.rnn", "with": {"width": 8, "embedding": 6}},
    }
    model = engine.recipe("vae", {"text": words}, posterior="gaussian", latent=2, components=0)
    for how in ({"rounds": 2}, {"method": "optimise", "steps": 3}):
        (row,) = model.inpaint({"text": ["abcdef"]}, {"text": [gap(8, 2, 4)]}, **how)
        (signal,) = model.inpainted_signals({"text": ["abcdef"]}, {"text": [gap(8, 2, 4)]}, **how).values()
        known = torch.cat([signal.data[0, :2], signal.data[0, 4:]])
        whole = model.modalities["text"].prepare("abcdef").data
        assert torch.equal(known, torch.cat([whole[:2], whole[4:]]))
        assert row["text"].startswith("ab")
        assert row["text"].endswith("ef")


# Masks


def test_surroundings_are_the_share_of_hidden_neighbours() -> None:
    known = box(9, 9, 3, 4, 2, 3)[None, None]
    valid = torch.ones_like(known)
    found = surroundings(known, valid, Image(shape=[1, 9, 9]), window=3)[0, 0]
    for i in range(9):
        for j in range(9):
            near = known[0, 0, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            wanted = (~near).float().mean() * known[0, 0, i, j]
            assert found[i, j] == pytest.approx(float(wanted), abs=1e-6)


def test_hidden_steps_close_up() -> None:
    data = torch.arange(8.0).reshape(1, 4, 2)
    known = torch.ones(1, 4, 2, dtype=torch.bool)
    known[0, 1], known[0, 2, 0] = False, False
    found = hide(
        Signal(data, torch.tensor([[True, True, True, False]])), known, Series(channels=2, length=4, binary=[])
    )
    assert found.mask is not None
    assert found.mask.tolist() == [[True, True, False, False]]
    assert found.data[0, :2].tolist() == [[0.0, 1.0], [0.0, 5.0]]
