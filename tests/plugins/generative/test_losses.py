"""Losses against their formulas, on whole batches and with gaps. Who receives them is proved in tests/routing."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from fusion_engine import Batch, BuildError, Clock, ConfigError, Run
from fusion_engine_generative.losses.games.base import annealed

VAE = {
    "modalities": {
        "x": {"use": "modality/toys.vector", "with": {"size": 4}},
        "y": {"use": "modality/toys.vector", "with": {"size": 2}},
    },
    "nodes": {
        "enc_x": {"use": "encoder/toys.mlp", "in": "x"},
        "enc_y": {"use": "encoder/toys.mlp", "in": "y"},
        "post": {"use": "posterior/poe", "in": ["enc_x", "enc_y"], "with": {"latent": 3}},
        "dec_x": {"use": "decoder/toys.mlp", "in": "post", "out": "x"},
        "dec_y": {"use": "decoder/toys.mlp", "in": "post", "out": "y"},
        "disc_x": {"use": "encoder/toys.mlp", "in": "x"},
        "score": {"use": "head/score", "in": "disc_x"},
    },
}


def graph_of(toys, loss, **options):
    return toys.build({**VAE, "losses": {"loss": {"use": f"loss/{loss}", "with": options}}}).graph.eval()


def batch_of(graph, present_x=(True,) * 5, present_y=(True,) * 5):
    signals = {m: modality.example(5) for m, modality in graph.modalities.items()}
    return Batch.of(signals, {"x": torch.tensor(present_x), "y": torch.tensor(present_y)})


def term_of(graph, batch, player="generator", clock=None):
    run = Run(graph, batch, player=player, clock=clock, sample=True)
    return run, graph.loss("loss")(run, player)


def test_reconstruction_is_the_balanced_and_weighted_negative_log_likelihood_of_what_is_there(toys):
    graph = graph_of(toys, "reconstruction", weights={"y": 0.5})
    batch = batch_of(graph, present_x=(True, False, True, False, True), present_y=(True, True, False, False, True))
    run, term = term_of(graph, batch)
    expected = 0.0
    for row in range(5):
        for m, factor in (("x", 1.0), ("y", 0.5 * 4 / 2)):
            if batch.present[m][row]:
                mean = graph[f"dec_{m}"](run["post"].z[row : row + 1], {}).mean.data
                expected -= factor * Normal(mean, 1.0).log_prob(batch.signals[m].data[row]).sum()
    torch.testing.assert_close(term.sum, expected)
    assert int(term.count) == 4  # one row has nothing
    plain = graph_of(toys, "reconstruction", balance=False, nodes=["dec_y"])
    run, term = term_of(plain, batch_of(plain))
    mean = plain["dec_y"](run["post"].z, {}).mean.data
    torch.testing.assert_close(term.sum, -Normal(mean, 1.0).log_prob(run.batch.signals["y"].data).sum())


def test_kl_is_torchs_and_free_bits_are_a_floor_for_each_element(toys):
    batch = batch_of(graph_of(toys, "kl"), present_x=(False, True, True, True, True))
    graph = graph_of(toys, "kl")
    run, term = term_of(graph, batch)
    elements = kl_divergence(run["post"].distribution, Normal(0.0, 1.0))
    torch.testing.assert_close(term.sum, elements.sum())
    floor = float(elements.detach().median())
    _, free = term_of(graph_of(toys, "kl", free_bits=floor), batch)
    torch.testing.assert_close(free.sum, torch.where(elements > floor, elements, torch.tensor(floor)).sum())


def test_beta_warms_up_along_a_line(toys):
    loss = graph_of(toys, "kl", beta=4.0, warmup_steps=10).loss("loss")
    assert [loss.scale(Clock(step)) for step in (0, 5, 10, 50)] == [0.0, 2.0, 4.0, 4.0]
    assert graph_of(toys, "kl", beta=4.0).loss("loss").scale(Clock(0)) == 4.0


def test_penalties_anneal_along_half_a_cosine():
    assert annealed(10.0, Clock(0, 0.0)) == 1.0
    assert annealed(10.0, Clock(0, 0.5)) == pytest.approx(0.55)
    assert annealed(10.0, Clock(0, 1.0)) == pytest.approx(0.1)
    assert annealed(1.0, Clock(0, 0.7)) == 1.0


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_games_are_their_formulas_over_the_rows_that_have_what_is_judged(toys, player):
    present = (True, False, True, True, False)
    rows = torch.tensor(present)
    for game in ("non_saturating", "relativistic"):
        graph = graph_of(toys, game, score="score", r1=0.0, r2=0.0, fakes={"prior": 3.0, "reconstruction": 1.0})
        run, term = term_of(graph, batch_of(graph, present_x=present), player)
        real = run.real().score("score")[rows]
        expected = torch.zeros(3)
        for source, share in (("prior", 0.75), ("reconstruction", 0.25)):
            fake = run.fake(source).score("score")[rows]
            if game == "relativistic":
                sign = 1 if player == "discriminator" else -1
                cost = -torch.log(torch.sigmoid(sign * (real - fake)))
            elif player == "discriminator":
                cost = -torch.log(torch.sigmoid(real)) - torch.log(1 - torch.sigmoid(fake))
            else:
                cost = -torch.log(torch.sigmoid(fake))
            expected = expected + share * cost
        torch.testing.assert_close(term.sum, expected.sum(), rtol=1e-4, atol=1e-5)
        assert int(term.count) == 3


def test_the_penalty_is_half_gamma_times_the_squared_gradient_by_finite_differences(toys):
    graph = graph_of(toys, "relativistic", score="score", r1=0.8, r2=0.0, decay=10.0)
    bare = graph_of(toys, "relativistic", score="score", r1=0.0, r2=0.0)
    bare.load_state_dict(graph.state_dict())
    graph.double(), bare.double()
    batch = batch_of(graph)
    double = Batch.of({m: s.map(lambda x: x.double()) for m, s in batch.signals.items()})
    clock = Clock(0, 0.5)
    (_, with_penalty), (_, without) = (term_of(g, double, "discriminator", clock) for g in (graph, bare))
    x, h = double.signals["x"].data, 1e-5
    squared = torch.zeros(5, dtype=torch.double)
    for i in range(x.shape[1]):
        step = torch.zeros_like(x)
        step[:, i] = h
        up, down = (Run(bare, double).replay({"x": type(double.signals["x"])(v)}) for v in (x + step, x - step))
        squared += ((up.score("score") - down.score("score")) / (2 * h)).detach() ** 2
    expected = 0.8 / 2 * annealed(10.0, clock) * squared.sum()
    torch.testing.assert_close(with_penalty.sum - without.sum, expected, rtol=1e-5, atol=1e-8)


def test_lazy_penalties_are_paid_on_one_step_of_several_that_many_times(toys):
    options = {"score": "score", "r1": 0.8, "r2": 0.3}
    bare, plain = (
        graph_of(toys, "relativistic", score="score", r1=0.0, r2=0.0),
        graph_of(toys, "relativistic", **options),
    )
    lazy = graph_of(toys, "relativistic", **options, every=3)
    for graph in (plain, lazy):
        graph.load_state_dict(bare.state_dict())
    batch = batch_of(bare)
    for step in range(4):
        clock = Clock(step, 0.25)
        without, each, found = (term_of(g, batch, "discriminator", clock)[1].sum for g in (bare, plain, lazy))
        expected = without + 3 * (each - without) if step % 3 == 0 else without
        torch.testing.assert_close(found, expected)


def test_the_estimated_gradient_agrees_with_the_exact_one_in_the_mean(toys):
    graph = graph_of(toys, "relativistic", score="score").double()
    x = graph.modalities["x"].example(1).data.double().expand(20_000, -1)
    y = graph.modalities["y"].example(1).data.double().expand(20_000, -1)
    signal = type(graph.modalities["x"].example(1))
    run = Run(graph, Batch.of({"x": signal(x), "y": signal(y)}), player="discriminator")
    exact = run.score_and_gradient("score")[1]
    graph.approximated.add("score")
    estimate = Run(graph, run.batch, player="discriminator").score_and_gradient("score")[1]
    assert estimate.mean().item() == pytest.approx(exact[0].item(), rel=0.05)


def test_feature_matching_is_half_the_squared_distance_of_the_discriminators_features(toys):
    for mean in (True, False):
        graph = graph_of(toys, "feature_matching", score="score", mean=mean)
        run, term = term_of(graph, batch_of(graph))
        fake = graph["dec_x"](run.generated("reconstruction", detach=False)["post"].z, {}).mean
        real, other = graph["disc_x"](run.batch.signals["x"]).pooled, graph["disc_x"](fake).pooled
        squared = ((real - other) ** 2 / 2).sum()
        torch.testing.assert_close(term.sum, squared / real.shape[1] if mean else squared)


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        ("feature_matching", {"score": "score", "nodes": ["enc_x"]}, "matches no node"),
        ("reconstruction", {"weights": {"z": 1.0}}, "no modality 'z'"),
        ("non_saturating", {"score": "score", "fakes": {"prior": 0.0}}, "weigh nothing"),
        ("kl", {"nodes": ["dec_x"]}, "matches"),
    ],
)
def test_what_does_not_fit_the_graph_is_refused(toys, loss, options, message):
    with pytest.raises((BuildError, ConfigError), match=message):
        graph_of(toys, loss, **options)


def test_cross_entropy_counts_labelled_rows_only(toys):
    config = {
        "modalities": {
            "x": VAE["modalities"]["x"],
            "label": {"use": "modality/category", "with": {"classes": [0, 1, 2]}},
        },
        "nodes": {
            "enc_x": VAE["nodes"]["enc_x"],
            "head": {"use": "head/classification", "in": "enc_x", "out": "label"},
        },
        "losses": {"loss": {"use": "loss/cross_entropy", "with": {"head": "head", "smoothing": 0.1}}},
    }
    graph = toys.build(config).graph.eval()
    labels = torch.tensor([0, 2, 1, 1])
    signal = type(graph.modalities["x"].example(1))
    labelled = {"label": torch.tensor([True, True, False, True])}
    batch = Batch.of({"x": graph.modalities["x"].example(4), "label": signal(labels)}, labelled)
    run, term = term_of(graph, batch)
    log_p = run["head"].log_softmax(-1)
    expected = sum(-0.9 * log_p[i, labels[i]] - 0.1 * log_p[i].mean() for i in (0, 1, 3))
    torch.testing.assert_close(term.sum, expected)
    assert int(term.count) == 3
    assert math.isfinite(term.sum.item())
