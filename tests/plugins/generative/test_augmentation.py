"""What a discriminator sees inputs through: games on augmented views, and a probability that follows their scores.

Who receives which gradient through them is proved in tests/routing, exactness over shared steps in tests/training.
"""

import pytest
import torch

from fusion_engine import Batch, BuildError, Clock, ConfigError, Noise, Run, Signal

GAMES = ["hinge", "least_squares", "minimax", "non_saturating", "relativistic", "wasserstein"]
CONFIG = {
    "modalities": {m: {"use": "modality/toys.vector", "with": {"size": d}} for m, d in (("x", 4), ("y", 2), ("w", 2))},
    "nodes": {
        "enc_x": {"use": "encoder/toys.mlp", "in": "x"},
        "enc_w": {"use": "encoder/toys.mlp", "in": "w"},
        "post": {"use": "posterior/poe", "in": ["enc_x", "enc_w"], "with": {"latent": 3}},
        "dec_x": {"use": "decoder/toys.mlp", "in": "post", "out": "x"},
        "dec_y": {"use": "decoder/toys.mlp", "in": "post", "out": "y"},
        "disc_x": {"use": "encoder/toys.mlp", "in": "x"},
        "disc_y": {"use": "encoder/toys.mlp", "in": "y"},
        "all": {"use": "fusion/concat", "in": ["disc_x", "disc_y"], "with": {"width": 4, "activation": "silu"}},
        "score": {"use": "head/score", "in": "all"},
    },
}
SOURCES = {"prior": 1.0, "reconstruction": 3.0}
B = 6
PRESENT = {"x": torch.tensor([True, True, False, True, True, True]), "y": torch.tensor([True, False] * 3)}
NOISE = Noise.of(B, 5)


def graph_of(toys, game="non_saturating", augment=None, **options):
    part = {"use": f"loss/{game}", "with": {"score": "score", "fakes": SOURCES, **options}}
    if augment is not None:
        part["with"]["augment"] = augment
    return toys.build({**CONFIG, "losses": {"game": part}}).graph.double().train()


def run_of(graph, player):
    signals = {m: modality.example(B).map(torch.Tensor.double) for m, modality in graph.modalities.items()}
    return Run(graph, Batch.of(signals, PRESENT), noise=NOISE, player=player, clock=Clock(0, 0.5), sample=True)


def by_hand(view, names, p=1.0):
    """The view's data with every change made outside of the graph, on the rows drawn for it."""
    values = {}
    for m in ("x", "y"):
        data = view.signal(m).data
        for name in names:
            noise = view.noise("augment", m, name)
            rows = noise.at("rows").uniform() < p
            changed = view.graph.modalities[m].augment(Signal(data), name, noise).data
            data = torch.where(rows[:, None], changed, data)
        values[m] = Signal(data)
    return view.replay(values)


@pytest.mark.parametrize("player", ["discriminator", "generator"])
@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("p", [1.0, 0.4])
def test_a_game_is_the_game_on_signals_augmented_by_hand(toys, monkeypatch, game, player, p):
    graph = graph_of(toys, game, {"probability": p})
    plain = graph_of(toys, game)
    plain.load_state_dict(graph.state_dict())
    found = graph.loss("game")(run_of(graph, player), player)
    monkeypatch.setattr(Run, "real", lambda run, real=Run.real: by_hand(real(run), ("stretch", "move"), p))
    monkeypatch.setattr(
        Run, "fake", lambda run, source, fake=Run.fake: by_hand(fake(run, source), ("stretch", "move"), p)
    )
    expected = plain.loss("game")(run_of(plain, player), player)
    torch.testing.assert_close(found.sum, expected.sum, rtol=1e-12, atol=0)
    assert found.count == expected.count
    mine = torch.autograd.grad(found.sum, list(graph.parameters_of(graph.owners(player))), allow_unused=True)
    theirs = torch.autograd.grad(expected.sum, list(plain.parameters_of(plain.owners(player))), allow_unused=True)
    assert [g is None for g in mine] == [g is None for g in theirs]
    for g, e in zip(mine, theirs, strict=True):
        if g is not None:
            torch.testing.assert_close(g, e, rtol=1e-9, atol=1e-12)
    assert any(g is not None and g.any() for g in mine)


@pytest.mark.parametrize("player", ["discriminator", "generator"])
@pytest.mark.parametrize("augment", [{"probability": 0.0}, {"target": 0.6}])
def test_with_probability_0_nothing_changes_in_any_bit(toys, player, augment):
    graph, plain = graph_of(toys, augment=augment, r1=0.3, r2=0.3), graph_of(toys, r1=0.3, r2=0.3)
    plain.load_state_dict(graph.state_dict(), strict=False)
    found, expected = (g.loss("game")(run_of(g, player), player) for g in (graph, plain))
    assert torch.equal(found.sum, expected.sum)
    assert set(found.statistics) - set(expected.statistics) == {"augmented"}
    assert float(found.statistics["augmented"]) == 0.0


def test_rows_are_drawn_each_by_itself_for_every_change_and_view(toys):
    graph = graph_of(toys, augment={})
    signals = {m: modality.example(400) for m, modality in graph.float().modalities.items()}
    run = Run(graph, Batch.of(signals), noise=Noise.of(400, 1), player="discriminator", sample=True)
    changed = {}
    for name in ("stretch", "move"):
        for view in (run.real(), run.fake("prior")):
            seen = view.augmented("score", {"x": (name,)}, 0.3)
            assert torch.equal(seen.signal("y").data, view.signal("y").data)
            rows = (seen.signal("x").data != view.signal("x").data).any(1)
            changed[name, view is run.real()] = rows
            assert torch.equal(seen.signal("x").data[~rows], view.signal("x").data[~rows])
            assert float(rows.double().mean()) == pytest.approx(0.3, abs=0.07)
    together = torch.stack([*changed.values()]).double()
    correlation = torch.corrcoef(together)
    assert float((correlation - torch.eye(4)).abs().max()) < 0.2  # four standard errors


def test_the_penalty_is_that_of_the_gradient_at_what_the_discriminator_sees(toys):
    """By finite differences around T(x), as a whole; both penalties share nothing else."""
    options = {"r2": 0.0, "decay": 1.0, "augment": {"modalities": {"x": ["move"], "y": []}}}
    graph, bare = graph_of(toys, r1=0.8, **options), graph_of(toys, r1=0.0, **options)
    bare.load_state_dict(graph.state_dict())
    with_penalty, without = (g.loss("game")(run_of(g, "discriminator"), "discriminator") for g in (graph, bare))
    view = run_of(bare, "discriminator").augmented("score", {"x": ("move",), "y": ("stretch", "move")}, 1.0)
    points = {m: view.signal(m).data.detach() for m in ("x", "y")}
    squared, h = torch.zeros(B, dtype=torch.double), 1e-5
    for m, x in points.items():
        for i in range(x.shape[1]):
            step = torch.zeros_like(x)
            step[:, i] = h
            up, down = (view.replay({m: Signal(v)}).score("score").detach() for v in (x + step, x - step))
            squared += ((up - down) / (2 * h)) ** 2
    rows = view.present("score")
    torch.testing.assert_close(with_penalty.sum - without.sum, 0.4 * squared[rows].sum(), rtol=1e-6, atol=1e-9)


def test_the_probability_follows_how_sure_the_discriminator_is(toys):
    """Up by the rows of a step while E sign D(x) is above the target, down while below; between 0 and the ceiling."""
    graph = graph_of(toys, augment={"target": 0.5, "images": 10 * B, "probability": 0.45})
    game = graph.loss("game")

    def turn(bias, player="discriminator"):
        """Scores of one sign: the discriminator has memorised everything, or nothing."""
        torch.nn.init.constant_(list(graph["score"].parameters())[-1], bias)
        term = game(run_of(graph, player), player)
        game.observe(player, {name: float(x / term.count) for name, x in term.statistics.items()})
        return float(term.statistics["augmented"] / term.count), game.augmentation.probability

    told = [turn(100.0) for _ in range(6)]
    assert told == [
        pytest.approx(pair) for pair in [(0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.45), (0.45, 0.45)]
    ]
    assert turn(100.0, "generator") == pytest.approx((0.45, 0.45))
    told = [turn(-100.0)[1] for _ in range(6)]
    assert told == pytest.approx([0.35, 0.25, 0.15, 0.05, 0.0, 0.0])
    game.augmentation.observe(0.5, B)
    assert game.augmentation.probability == 0.0
    assert int(graph.state_dict()["losses.game_.augmentation.rows"]) == 0


def test_without_a_target_there_is_nothing_to_save(toys):
    assert not [name for name in graph_of(toys, augment={}).state_dict() if "augment" in name]


@pytest.mark.parametrize(
    ("modalities", "chosen"),
    [
        (None, {"x": ("stretch", "move"), "y": ("stretch", "move")}),
        ({"y": []}, {"y": ("stretch", "move")}),
        ({"x": ["move", "stretch"]}, {"x": ("move", "stretch")}),
    ],
)
def test_what_is_not_said_is_all_that_there_is(toys, modalities, chosen):
    assert graph_of(toys, augment={"modalities": modalities}).loss("game").augmentation.chosen == chosen


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ({"modalities": {"z": []}}, "no modality 'z'"),
        ({"modalities": {"w": []}}, "does not look at 'w'"),
        ({"modalities": {"x": ["stretched"]}}, r"(?s)no augmentation 'stretched'.*'stretch'"),
        ({"probability": 1.5}, "probability"),
        ({"probabilty": 0.5}, "probabilty"),
        ({"target": 0.6, "images": 0}, "images"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(toys, augment, message):
    with pytest.raises((BuildError, ConfigError), match=message):
        graph_of(toys, augment=augment)


@pytest.mark.parametrize("augment", [{}, {"modalities": {"c": []}}])
def test_data_without_augmentations_is_refused_in_words(engine, augment):
    config = {
        "modalities": {"c": {"use": "modality/tabular.number", "with": {"centre": [0.0], "deviation": [1.0]}}},
        "nodes": {
            "noise": {"use": "prior/normal", "with": {"latent": 2}},
            "dec": {"use": "decoder/tabular.numbers", "in": {"z": "noise"}, "out": "c"},
            "disc": {"use": "encoder/tabular.numbers", "in": "c"},
            "score": {"use": "head/score", "in": "disc"},
        },
        "losses": {"game": {"use": "loss/hinge", "with": {"score": "score", "augment": augment}}},
    }
    with pytest.raises(BuildError, match="augment"):
        engine.build(config)


def test_consistency_compares_scores_of_the_same_rows_augmented_by_hand(toys):
    part = {"use": "loss/consistency", "with": {"score": "score", "fake_weight": 0.25}}
    graph = toys.build({**CONFIG, "losses": {"same": part}}).graph.double().train()
    run = run_of(graph, "discriminator")
    term = graph.loss("same")(run, "discriminator")
    rows = PRESENT["x"] | PRESENT["y"]
    expected = torch.zeros(int(rows.sum()), dtype=torch.double)
    for view, weight in ((run.real(), 1.0), (run.fake("prior"), 0.25)):
        moved = by_hand(view, ("stretch", "move"))
        expected = expected + weight * (view.score("score") - moved.score("score")).pow(2)[rows]
    torch.testing.assert_close(term.sum, expected.sum())
    assert int(term.count) == int(rows.sum())
    assert float(term.statistics["real"]) > 0 < float(term.statistics["fake"])
    assert graph.loss("same").players == {"discriminator"}
