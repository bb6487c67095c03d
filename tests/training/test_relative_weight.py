"""A loss whose weight is relative to another's: how hard it pulls where both leave the decoders, what is refused."""

from typing import Any

import pytest
import torch

from fusion_engine import Batch, Clock, ConfigError, Engine, Graph, Noise, Run
from fusion_engine.training.turns import Turn, relative_pull, take_turn

NUMBERS = {"use": "modality/tabular.number", "with": {"centre": [0.0] * 3, "deviation": [1.0] * 3}}
SMALL = {"width": 8, "hidden": 8}
CONFIG: dict[str, Any] = {
    "modalities": {"x": NUMBERS},
    "nodes": {
        "enc": {"use": "encoder/tabular.numbers", "in": "x", "with": SMALL},
        "post": {"use": "posterior/gaussian", "in": "enc", "with": {"latent": 2}},
        "dec": {"use": "decoder/tabular.numbers", "in": "post", "out": "x", "with": {"width": 8}},
        "disc": {"use": "encoder/tabular.numbers", "in": "x", "with": SMALL},
        "score": {"use": "head/score", "in": "disc"},
    },
    "losses": {
        "reconstruction": {"use": "loss/reconstruction", "with": {"weight": 2.0}},
        "game": {
            "use": "loss/non_saturating",
            "with": {"score": "score", "weight": 0.8},
            "relative_to": "reconstruction",
        },
    },
    "stages": [{"name": "play", "steps": 2, "losses": ["reconstruction", "game"]}],
}


def turned(graph: Graph, batch: Batch, losses: list[str]) -> tuple[dict[str, float], list[torch.Tensor]]:
    graph.zero_grad(set_to_none=True)
    parameters = list(graph.parameters_of(graph.owners("generator")))
    turn = Turn("generator", {n: graph.loss(n) for n in losses}, parameters, torch.optim.SGD(parameters, lr=0.0))
    metrics = take_turn(graph, turn, [batch], Noise.of(8, 3), Clock())
    return metrics, [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]


def test_it_pulls_weight_times_as_hard_where_both_leave_the_decoder():
    model = Engine().build(CONFIG)
    graph = model.graph.double().train()
    torch.manual_seed(1)
    batch = Batch.of({"x": graph.modalities["x"].example(8).map(torch.Tensor.double)})
    names = [(node, n) for node in graph.wiring.order for n, _ in graph[node].named_parameters()]
    names = [name for name in names if name[0] in ("enc", "post", "dec")]
    metrics, together = turned(graph, batch, ["reconstruction", "game"])
    _, plain = turned(graph, batch, ["reconstruction"])
    _, alone = turned(graph, batch, ["game"])  # without its reference: the plain weight of 0.8
    last = names.index(("dec", "body.2.weight"))
    pull = plain[last].norm() / (alone[last].norm() / 0.8 + 1e-4)
    assert metrics["game.pull"] == pytest.approx(float(pull), rel=1e-5)
    for found, own, reference in zip(together, alone, plain, strict=True):
        torch.testing.assert_close(found, reference + pull * own, rtol=1e-6, atol=1e-9)
    added = (together[last] - plain[last]).norm() / plain[last].norm()
    assert float(added) == pytest.approx(0.8, rel=5e-3)  # the 1e-4 in the ratio


def test_a_loss_that_does_not_reach_the_decoder_keeps_its_weight():
    graph = Engine().build(CONFIG).graph.train()
    run = Run(graph, Batch.of({"x": graph.modalities["x"].example(4)}), sample=True)
    kl = run["post"].kl().sum()
    assert float(relative_pull(graph, run.likelihood("dec")[0].log_prob(run.batch.signals["x"]).sum(), kl)) == 1.0


def test_it_trains_and_tells_its_pull():
    model = Engine().build(CONFIG)
    model.fit({"x": [[0.5, 1.0, -1.0], [1.0, 0.0, 2.0], [0.0, 0.5, 0.3], [2.0, 1.5, 0.1]]})
    history = model.progress.history[-1]
    assert history["generator/game.pull"] > 0
    assert "discriminator/game.pull" not in history


@pytest.mark.parametrize(
    ("relative", "losses", "said"),
    [
        ("recon", ["reconstruction", "game"], "did you mean 'reconstruction'"),
        ("game", ["reconstruction", "game"], "there is no other loss 'game'"),
        ("reconstruction", ["game"], "which the stage does not have"),
    ],
)
def test_what_it_is_relative_to_must_be_there(relative: str, losses: list[str], said: str):
    config = {
        **CONFIG,
        "losses": {**CONFIG["losses"], "game": {**CONFIG["losses"]["game"], "relative_to": relative}},
        "stages": [{"name": "play", "steps": 2, "losses": losses}],
    }
    with pytest.raises(ConfigError, match=said):
        Engine().build(config)


def test_a_loss_alone_has_none_to_be_relative_to():
    game = {**CONFIG["losses"]["game"], "relative_to": "reconstruction"}
    config = {**CONFIG, "losses": {"game": game}, "stages": [{"name": "play", "steps": 2, "losses": ["game"]}]}
    with pytest.raises(ConfigError, match="leave 'relative_to' out: there is no other loss"):
        Engine().build(config)
