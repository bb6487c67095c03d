"""Every game against its formula, written anew; the penalty of the Wasserstein game by finite differences; LeCam."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fusion_engine import Batch, Clock, Engine, Graph, Noise, Player, Run, Signal
from fusion_engine.training.turns import Turn, take_turn
from fusion_engine_generative.losses.games.wasserstein import between

NUMBERS = {"use": "modality/tabular.number", "with": {"centre": [0.0] * 3, "deviation": [1.0] * 3}}
LABEL = {"use": "modality/tabular.category", "with": {"classes": ["a", "b", "c", "d"]}}
CONFIG: dict[str, Any] = {
    "modalities": {"x": NUMBERS, "label": LABEL},
    "nodes": {
        "noise": {"use": "prior/normal", "with": {"latent": 4}},
        "dec_x": {"use": "decoder/tabular.numbers", "in": {"z": "noise"}, "out": "x", "with": {"width": 8}},
        "dec_label": {"use": "decoder/tabular.logits", "in": {"z": "noise"}, "out": "label"},
        "disc_x": {"use": "encoder/tabular.numbers", "in": "x", "with": {"width": 8, "hidden": 8}},
        "disc_label": {"use": "encoder/tabular.embedding", "in": "label", "with": {"width": 8}},
        "all": {"use": "fusion/concat", "in": ["disc_x", "disc_label"], "with": {"width": 8, "activation": "silu"}},
        "score": {"use": "head/score", "in": "all"},
    },
}
ROWS = torch.tensor([True, True, False, True, True])


def graph_of(loss: str, **options: Any) -> Graph:
    part = {"use": f"loss/{loss}", "with": {"score": "score", **options}}
    return Engine().build({**CONFIG, "losses": {"loss": part}}).graph.double().train()


def batch_of(graph: Graph) -> Batch:
    torch.manual_seed(5)
    x = graph.modalities["x"].example(5).map(Tensor.double)
    x = Signal(x.data.masked_fill(~ROWS[:, None], torch.nan))
    return Batch.of({"x": x, "label": graph.modalities["label"].example(5)}, {"x": ROWS, "label": ROWS})


def run_of(graph: Graph, player: Player, step: int = 0) -> Run:
    batch = batch_of(graph)
    noise = Noise(Noise.of(2).key, batch.index, batch.total)
    return Run(graph, batch, noise=noise, player=player, sample=True, clock=Clock(step))


Formula = Callable[[Tensor, Tensor], Tensor]
FORMULAS: dict[str, tuple[Formula, Formula]] = {
    "minimax": (lambda r, f: -r.sigmoid().log() - (1 - f.sigmoid()).log(), lambda r, f: (1 - f.sigmoid()).log()),
    "non_saturating": (lambda r, f: -r.sigmoid().log() - (1 - f.sigmoid()).log(), lambda r, f: -f.sigmoid().log()),
    "least_squares": (lambda r, f: 0.5 * (r - 1) ** 2 + 0.5 * f**2, lambda r, f: 0.5 * (f - 1) ** 2),
    "hinge": (lambda r, f: (1 - r).clamp(min=0) + (1 + f).clamp(min=0), lambda r, f: -f),
    "relativistic": (lambda r, f: -(r - f).sigmoid().log(), lambda r, f: -(f - r).sigmoid().log()),
    "wasserstein": (lambda r, f: f - r, lambda r, f: -f),
}
BARE = {"wasserstein": {"gradient_penalty": 0.0}, "relativistic": {"r1": 0.0, "r2": 0.0}}


@pytest.mark.parametrize("player", ["discriminator", "generator"])
@pytest.mark.parametrize("game", FORMULAS)
def test_a_game_is_its_formula(game: str, player: Player):
    graph = graph_of(game, **BARE.get(game, {}))
    with torch.no_grad():  # scores of several units, so that margins and targets matter
        for p in graph["score"].parameters():
            p *= 40
    run = run_of(graph, player)
    term = graph.loss("loss")(run, player)
    real, fake = (view.score("score")[ROWS] for view in (run.real(), run.fake("prior")))
    torch.testing.assert_close(term.sum, FORMULAS[game][player == "generator"](real, fake).sum())
    assert int(term.count) == 4
    assert real.abs().max() > 1


def test_where_the_real_is_inferred_the_generator_pulls_its_score_the_other_way():
    config = {
        "modalities": {"x": NUMBERS},
        "nodes": {
            "enc": {"use": "encoder/tabular.numbers", "in": "x", "with": {"width": 8, "hidden": 8}},
            "post": {"use": "posterior/gaussian", "in": "enc", "with": {"latent": 2}},
            "dec": {"use": "decoder/tabular.numbers", "in": "post", "out": "x", "with": {"width": 8}},
            "codes": {"use": "fusion/concat", "in": "post", "with": {"width": 8, "activation": "silu"}},
            "score": {"use": "head/score", "in": "codes"},
        },
    }
    expected = {
        "minimax": lambda r, f: (1 - f.sigmoid()).log() + r.sigmoid().log(),
        "non_saturating": lambda r, f: -f.sigmoid().log() - (1 - r.sigmoid()).log(),
        "least_squares": lambda r, f: 0.5 * (f - 1) ** 2 + 0.5 * r**2,
        "hinge": lambda r, f: r - f,
        "relativistic": lambda r, f: -(f - r).sigmoid().log(),
        "wasserstein": lambda r, f: r - f,
    }
    for game, formula in expected.items():
        loss = {"use": f"loss/{game}", "with": {"score": "score"}}
        graph = Engine().build({**config, "losses": {"loss": loss}}).graph.double().train()
        x = graph.modalities["x"].example(4).map(Tensor.double)
        run = Run(graph, Batch.of({"x": x}), player="generator", sample=True)
        real, fake = (view.score("score") for view in (run.real(), run.fake("prior")))
        torch.testing.assert_close(graph.loss("loss")(run, "generator").sum, formula(real, fake).sum())


def test_the_wasserstein_penalty_is_on_the_line_between_by_finite_differences():
    graph = graph_of("wasserstein", gradient_penalty=3.0)
    run = run_of(graph, "discriminator")
    real, fake = run.real(), run.fake("prior")
    view = between(real, fake, "score", "prior")
    e = real.noise("between", "score", "prior").uniform(like=real.score("score"))
    x, labels = view.signal("x").data, view.signal("label").data
    onehot = torch.nn.functional.one_hot(real.signal("label").data, 4).double()
    ends = {"x": (real.signal("x").data, fake.signal("x").data), "label": (onehot, fake.signal("label").data)}
    for found, name in ((x, "x"), (labels, "label")):
        a, b = ends[name]
        torch.testing.assert_close(found[ROWS], (e[:, None] * a + (1 - e[:, None]) * b)[ROWS])
    squared, h = torch.zeros(5, dtype=torch.double), 1e-5
    for name, base in (("x", x), ("label", labels)):
        if name == "label":  # differentiated at its embedding
            base = graph["disc_label"].embed(labels.detach())
        for i in range(base.shape[-1]):
            step = torch.zeros_like(base)
            step[..., i] = h
            ends_ = [_shifted(run, view, name, base, s) for s in (step, -step)]
            squared += ((ends_[0] - ends_[1]) / (2 * h)) ** 2
    term = graph.loss("loss")(run, "discriminator")
    plain = (fake.score("score") - real.score("score"))[ROWS].sum()
    torch.testing.assert_close(term.sum - plain, 3 * ((squared.sqrt() - 1) ** 2)[ROWS].sum(), rtol=1e-6, atol=1e-8)


def _shifted(run: Run, view: Run, name: str, base: Tensor, step: Tensor) -> Tensor:
    if name == "x":
        return view.replay({"x": Signal(base + step)}).score("score").detach()
    moved = view.replay({}, renew=run.wiring.trunk("score"))
    moved.at_embedding = lambda source, value: value + step[ROWS] if source == "disc_label" else value
    return moved.score("score").detach()


def test_lecam_follows_the_other_sides_average():
    graph = graph_of("lecam", decay=0.75)
    loss: Any = graph.loss("loss")
    run = run_of(graph, "discriminator")
    real, fake = (view.score("score")[ROWS].detach() for view in (run.real(), run.fake("prior")))
    parameters = list(graph.parameters_of(graph.owners("discriminator")))
    turn = Turn("discriminator", {"loss": loss}, parameters, torch.optim.SGD(parameters, lr=0.0))
    take_turn(graph, turn, [batch_of(graph)], Noise.of(2), Clock())
    assert float(loss.real) == pytest.approx(0.25 * float(real.mean()), rel=1e-5)
    assert float(loss.fake) == pytest.approx(0.25 * float(fake.mean()), rel=1e-5)
    loss.real += 0.4
    loss.fake -= 0.3
    a_real, a_fake = loss.real.clone(), loss.fake.clone()
    expected = ((real - a_fake).clamp(min=0) ** 2 + (a_real - fake).clamp(min=0) ** 2).sum()
    torch.testing.assert_close(loss(run, "discriminator").sum, expected)
    take_turn(graph, turn, [batch_of(graph)], Noise.of(2), Clock())
    assert float(loss.real) == pytest.approx(0.75 * float(a_real) + 0.25 * float(real.mean()), rel=1e-5)
    assert loss.players == {"discriminator"}


@pytest.mark.parametrize("game", ["minimax", "least_squares", "hinge", "wasserstein"])
def test_a_game_is_won_on_one_line(game: str):
    """A generator of numbers finds the mean of its data under every game."""
    modality = {"use": "modality/tabular.number"}
    nodes = {n: c for n, c in CONFIG["nodes"].items() if n not in ("dec_label", "disc_label", "all")}
    nodes["score"] = {"use": "head/score", "in": "disc_x"}
    options = {"gradient_penalty": 1.0} if game == "wasserstein" else {"r1": 0.3, "r2": 0.3}
    model = Engine().build(
        {
            "modalities": {"x": modality},
            "nodes": nodes,
            "losses": {"loss": {"use": f"loss/{game}", "with": {"score": "score", **options}}},
            "stages": [{"name": "play", "steps": 150, "losses": ["loss"]}],
            "train": {
                "batch_size": 64,
                "optimizer": {
                    "generator": {"lr": 5e-3, "betas": [0.0, 0.9]},
                    "discriminator": {"lr": 5e-3, "betas": [0.0, 0.9]},
                },
            },
        }
    )
    data = torch.randn(256, 3, generator=torch.Generator().manual_seed(1)) * 2 + torch.tensor([5.0, -3.0, 1.0])
    model.fit({"x": list(data.numpy())})
    made = torch.tensor([list(row) for row in model.generate(500)["x"]])
    assert (made.mean(0) - data.mean(0)).abs().max() < 0.9
    assert made.std(0).min() > 0.4
