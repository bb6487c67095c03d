"""What turns tell besides their losses: statistics of scores, exact over parts of a step, and the gradients' norm."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from fusion_engine import Batch, Clock, Engine, Graph, Noise, Run
from fusion_engine.training.turns import GRADIENT, Turn, is_statistic, take_turn

CONFIG: dict[str, Any] = {
    "modalities": {"x": {"use": "modality/tabular.number", "with": {"centre": [0.0] * 3, "deviation": [1.0] * 3}}},
    "nodes": {
        "noise": {"use": "prior/normal", "with": {"latent": 4}},
        "dec": {"use": "decoder/tabular.numbers", "in": {"z": "noise"}, "out": "x", "with": {"width": 8}},
        "disc": {"use": "encoder/tabular.numbers", "in": "x", "with": {"width": 8, "hidden": 8}},
        "score": {"use": "head/score", "in": "disc"},
    },
    "losses": {"game": {"use": "loss/non_saturating", "with": {"score": "score", "r1": 0.8, "r2": 0.4}}},
}


def graph_of(game: str = "non_saturating") -> Graph:
    part = {"use": f"loss/{game}", "with": CONFIG["losses"]["game"]["with"]}
    return Engine().build({**CONFIG, "losses": {"game": part}}).graph.double().train()


def batch_of(graph: Graph, rows: int = 6) -> Batch:
    torch.manual_seed(3)
    present = {"x": torch.tensor([True, True, False, True, True, True][:rows])}
    return Batch.of({"x": graph.modalities["x"].example(rows).map(torch.Tensor.double)}, present)


def turned(graph: Graph, player: str, batches: list[Batch]) -> Mapping[str, float]:
    parameters = list(graph.parameters_of(graph.owners(player)))
    turn = Turn(player, {"game": graph.loss("game")}, parameters, torch.optim.SGD(parameters, lr=0.0))
    return take_turn(graph, turn, batches, Noise.of(6, 5), Clock())


@pytest.mark.parametrize("game", ["non_saturating", "relativistic"])
def test_scores_penalty_and_sign_are_means_over_the_rows_that_count(game):
    graph = graph_of(game)
    batch = batch_of(graph)
    found = turned(graph, "discriminator", [batch])
    noise = Noise(Noise.of(6, 5).key, batch.index, batch.total)
    run, rows = Run(graph, batch, noise=noise, player="discriminator", sample=True), batch.present["x"]
    (real, r1), (fake, r2) = (v.score_and_gradient("score") for v in (run.real(), run.fake("prior")))
    real, fake, r1, r2 = (x.detach() for x in (real, fake, r1, r2))
    assert found["game.real"] == pytest.approx(float(real[rows].mean()))
    assert found["game.fake"] == pytest.approx(float(fake[rows].mean()))
    assert found["game.penalty"] == pytest.approx(float((0.4 * r1 + 0.2 * r2)[rows].mean()))
    margin = real if game == "non_saturating" else real - fake
    assert found["game.sign"] == pytest.approx(float(margin[rows].sign().mean()))


def test_statistics_of_parts_are_those_of_the_whole():
    graph = graph_of()
    whole = batch_of(graph)
    parts = [whole.take(torch.arange(2)), whole.take(torch.arange(2, 6))]
    one, two = turned(graph, "discriminator", [whole]), turned(graph, "discriminator", parts)
    assert one.keys() == two.keys() == {"game", "game.real", "game.fake", "game.penalty", "game.sign", GRADIENT}
    assert two == pytest.approx(dict(one), rel=1e-6)  # noise is drawn in single precision


def test_the_norm_is_of_all_gradients_before_they_are_clipped():
    graph = graph_of()
    found = turned(graph, "generator", [batch_of(graph)])
    squares = [p.grad.square().sum() for p in graph.parameters_of(graph.owners("generator")) if p.grad is not None]
    assert found[GRADIENT] == pytest.approx(float(torch.stack(squares).sum().sqrt()))


def test_what_is_told_is_no_loss_and_reaches_the_loss():
    assert [is_statistic(n) for n in ("generator/game", "discriminator/game.real", f"generator/{GRADIENT}")] == [
        0,
        1,
        1,
    ]
    graph, seen = graph_of(), []
    loss: Any = graph.loss("game")
    loss.observe = lambda player, statistics: seen.append((player, dict(statistics)))
    found = turned(graph, "discriminator", [batch_of(graph)])
    assert seen == [("discriminator", {k: found[f"game.{k}"] for k in ("real", "fake", "penalty", "sign")})]
