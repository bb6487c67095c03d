"""Divergences between experts, joint and prior, by loops over rows and inputs."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from fusion_engine import Batch, BuildError, Clock, Run

GRID = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
PRESENT = {
    "x": (True, False, True, False, True),
    "y": (True, True, False, False, True),
    "w": (True, True, True, False, False),
}


def graph_of(toys, posterior, loss, latent=3, **options):
    sizes = {"x": 4, "y": 2, "w": 3}
    config = {
        "modalities": {m: {"use": "modality/toys.vector", "with": {"size": n}} for m, n in sizes.items()},
        "nodes": {
            **{f"enc_{m}": {"use": "encoder/toys.mlp", "in": m} for m in sizes},
            "post": {"use": f"posterior/{posterior}", "in": [f"enc_{m}" for m in sizes], "with": {"latent": latent}},
            "own": {"use": "posterior/gaussian", "in": "enc_x", "with": {"latent": 2}},
            **{f"dec_{m}": {"use": "decoder/toys.mlp", "in": {"z": "post"}, "out": m} for m in sizes},
        },
        "losses": {"loss": {"use": f"loss/{loss}", "with": options}},
    }
    torch.manual_seed(0)
    return toys.build(config).graph.double().eval()


def term_of(graph):
    signals = {m: v.example(5).map(lambda x: x.double()) for m, v in graph.modalities.items()}
    run = Run(graph, Batch.of(signals, {m: torch.tensor(p) for m, p in PRESENT.items()}), sample=True)
    return run["post"], graph.loss("loss")(run, "generator")


def at(normal, *place):
    return Normal(normal.loc[place], normal.scale[place])


def held(row):
    return [m for m in PRESENT if PRESENT[m][row]]


def test_jensen_shannon_is_the_integral_of_its_definition(toys):
    graph = graph_of(toys, "moe", "jensen_shannon", latent=1)
    post, term = term_of(graph)
    expected = 0.0
    for row in range(5):
        densities = [at(post.experts[f"enc_{m}"], row, 0) for m in held(row)] + [Normal(0.0, 1.0)]
        logs = [d.log_prob(GRID) for d in densities]
        between = sum(logs) / len(logs)
        between = between - torch.trapezoid(between.exp(), GRID).log()
        expected += sum(torch.trapezoid(log.exp() * (log - between), GRID) for log in logs) / len(logs)
    assert_close(term.sum, expected, rtol=1e-5, atol=1e-7)
    assert int(term.count) == 4
    for clock, share in ((Clock(0), 0.0), (Clock(5), 1.0), (Clock(40), 2.0)):
        assert graph_of(toys, "moe", "jensen_shannon", beta=2.0, warmup_steps=10).loss("loss").scale(clock) == share


def test_jensen_shannon_is_zero_where_all_say_the_prior(toys):
    graph = graph_of(toys, "moe", "jensen_shannon")
    with torch.no_grad():
        for p in graph["post"].parameters():
            p.zero_()
    assert_close(term_of(graph)[1].sum, torch.zeros(()).double(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("posterior", ["poe", "mopoe"])
def test_total_correlation_is_the_mean_divergence_to_what_each_input_says(toys, posterior):
    graph = graph_of(toys, posterior, "total_correlation", alpha=0.6, beta=2.5)
    post, term = term_of(graph)
    expected = 0.0
    for row in range(5):
        for m in held(row):
            expert = at(post.experts[f"enc_{m}"], row)
            if posterior == "poe":
                kl = kl_divergence(at(post.distribution, row), expert).sum()
            else:
                every = [kl_divergence(at(post.distribution, k, row), expert).sum() for k in range(8)]
                kl = sum(w * x for w, x in zip(post.weights[:, row], every, strict=True))
            expected += kl / len(held(row))
    assert_close(term.sum, expected)
    assert int(term.count) == 4
    assert graph.loss("loss").scale(Clock(0)) == 1.5


def test_jmvae_kl_brings_the_experts_to_the_joint_in_whole_rows_alone(toys):
    graph = graph_of(toys, "jmvae", "jmvae_kl", alpha=0.3)
    post, term = term_of(graph)
    joint = at(post.distribution, 0)
    expected = sum(kl_divergence(joint, at(post.experts[f"enc_{m}"], 0)).sum() for m in PRESENT)
    assert_close(term.sum, expected)
    assert int(term.count) == 4
    assert graph.loss("loss").scale(Clock(0)) == 0.3
    gradients = torch.autograd.grad(term.sum, list(graph["post"].parameters()))
    assert all(g.abs().sum() > 0 for g in gradients)


def test_a_detached_joint_is_a_target_that_experts_and_encoders_learn(toys):
    graph = graph_of(toys, "jmvae", "jmvae_kl", detach=True)
    term = term_of(graph)[1]
    assert_close(term.sum, term_of(graph_of(toys, "jmvae", "jmvae_kl"))[1].sum)
    named = dict(graph["post"].named_parameters()) | dict(graph["enc_x"].named_parameters(prefix="encoder"))
    found = torch.autograd.grad(term.sum, list(named.values()), allow_unused=True)
    assert {n for n, g in zip(named, found, strict=True) if g is None} == {"joint.weight", "joint.bias"}
    assert all(g.abs().sum() > 0 for g in found if g is not None)


@pytest.mark.parametrize("loss", ["jensen_shannon", "total_correlation", "jmvae_kl"])
def test_a_posterior_without_experts_is_refused_when_it_is_named(toys, loss):
    with pytest.raises(BuildError, match="own has none"):
        graph_of(toys, "poe", loss, nodes=["own"])


def test_the_mvtcae_is_the_objective_of_its_paper(toys):
    m, alpha, beta = 3, 5 / 6, 2.5
    losses = {
        "reconstruction": {
            "use": "loss/reconstruction",
            "with": {"weight": (m - alpha) / m, "balance": False},
        },
        "kl": {"use": "loss/kl", "with": {"beta": beta * (1 - alpha), "nodes": ["post"]}},
        "loss": {"use": "loss/total_correlation", "with": {"alpha": alpha, "beta": beta}},
    }
    base = graph_of(toys, "poe", "kl")
    config = {"modalities": {}, "nodes": {}, "losses": losses}
    for name, size in (("x", 4), ("y", 2), ("w", 3)):
        config["modalities"][name] = {"use": "modality/toys.vector", "with": {"size": size}}
        config["nodes"][f"enc_{name}"] = {"use": "encoder/toys.mlp", "in": name}
    config["nodes"]["post"] = {"use": "posterior/poe", "in": [f"enc_{n}" for n in "xyw"], "with": {"latent": 3}}
    for name in "xyw":
        config["nodes"][f"dec_{name}"] = {"use": "decoder/toys.mlp", "in": {"z": "post"}, "out": name}
    graph = toys.build(config).graph.double().eval()
    signals = {n: v.example(5).map(lambda x: x.double()) for n, v in base.modalities.items()}
    run = Run(graph, Batch.of(signals), sample=True)
    post, q = run["post"], run["post"].distribution
    log_p = sum(Normal(graph[f"dec_{n}"](post.z, {}).mean.data, 1.0).log_prob(signals[n].data).sum() for n in signals)
    to_prior = kl_divergence(q, Normal(torch.zeros_like(q.loc), 1.0)).sum()
    to_each = sum(kl_divergence(q, e).sum() for e in post.experts.values())
    objective = (m - alpha) / m * log_p - beta * ((1 - alpha) * to_prior + alpha / m * to_each)
    terms = {n: graph.loss(n) for n in losses}
    assert_close(sum(loss.scale(Clock(0)) * loss(run, "generator").sum for loss in terms.values()), -objective)
