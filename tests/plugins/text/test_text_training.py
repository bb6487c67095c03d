"""Text in whole models: an auto-encoder learns phrases, a VAE-GAN passes gradients through drawn tokens."""

import pytest
import torch

from fusion_engine import Batch, Clock, Engine, Noise, Run
from fusion_engine.training.turns import Turn, take_turn

PHRASES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("digit 0", "digit 1", "digit 2", "a three", "a four", "a five", "an 8", "it is 9", "it is 6", "it is 7"),
    *("odd", "even", "prime", "a square", "over four", "under six", "not odd", "7 or 8", "at most 2", ""),
]
TEXT = {
    "use": "modality/text",
    "encoder": {"use": "encoder/text.transformer", "with": {"width": 16, "layers": 1}},
    "decoder": {"use": "decoder/text.rnn", "with": {"width": 64, "embedding": 16}},
}


def test_an_auto_encoder_learns_thirty_phrases(engine: Engine, tmp_path):
    train = {"batch_size": 30, "optimizer": {"generator": {"lr": 1e-2}}, "seed": 0}
    model = engine.recipe("vae", {"text": TEXT}, latent=16, beta=0.0, components=0, epochs=200, train=train)
    model.fit({"text": PHRASES})
    found = model.reconstruct({"text": PHRASES})["text"]
    assert sum(a == b for a, b in zip(found, PHRASES, strict=True)) >= 28
    assert model.modalities["text"].length == 10
    model.save(tmp_path / "saved")
    again = Engine().load(tmp_path / "saved")
    assert again.reconstruct({"text": PHRASES})["text"] == found
    assert all(len(text.encode()) < 20 for text in again.generate(5)["text"])


@pytest.mark.parametrize("decoder", ["decoder/text.rnn", "decoder/text.transformer"])
def test_a_vae_gan_plays_all_its_stages(engine: Engine, decoder: str):
    modalities = {
        "text": {**TEXT, "decoder": {"use": decoder, "with": {"width": 16}}},
        "label": "modality/category",
    }
    options = {"latent": 4, "components": 2, "epochs": [2, 2, 2], "warmup_steps": 1, "posterior": "mopoe"}
    data = {"text": [*PHRASES[:10], None, "one"], "label": [*range(10), 3, None]}
    model = engine.recipe("vae_gan", modalities, **options, train={"batch_size": 6, "seed": 0}).fit(data)
    stages = [row["stage"] for row in model.progress.history]
    assert list(dict.fromkeys(stages)) == ["pretrain", "adversarial", "together"]
    losses = [v for row in model.progress.history for v in row.values() if isinstance(v, float)]
    assert losses
    assert torch.tensor(losses).isfinite().all()
    assert len(model.translate({"label": [3, 4]}, to="text")) == 2


def test_the_adversarial_term_alone_moves_the_text_decoder_and_both_players_learn(engine: Engine):
    config = engine.recipe_config(
        "vae_gan", {"text": TEXT, "label": "modality/category"}, latent=4, components=0, warmup_steps=1
    )
    graph = engine.build(config).graph.train()
    signals = {name: graph.modalities[name].example(6) for name in ("text", "label")}
    batch = Batch.of(signals, {"text": torch.tensor([True, True, False, True, True, True])})
    game = next(name for name, part in config["losses"].items() if part["use"].startswith("loss/relativistic"))
    loss = graph.loss(game)
    term = loss(Run(graph, batch, noise=Noise.of(6), player="generator", sample=True), "generator")
    grads = torch.autograd.grad(term.sum, list(graph["dec_text"].parameters()))
    assert all(bool(g.isfinite().all()) and bool(g.any()) for g in grads)
    for player, nodes in {"generator": ["dec_text"], "discriminator": ["disc_text"]}.items():
        parameters = list(graph.parameters_of(nodes))
        before = [p.detach().clone() for p in parameters]
        turn = Turn(player, {game: loss}, parameters, torch.optim.Adam(parameters, lr=1e-2))
        for step in range(3):
            assert take_turn(graph, turn, [batch], Noise.of(6).at(step), Clock(step))[game] > 0
        assert all(bool((p != b).any()) for p, b in zip(parameters, before, strict=True))
