import pytest
import torch
from torch.distributions import Normal, kl_divergence

from fusion_engine import Batch, BuildError, Clock, Run

VECTORS = {m: {"use": "modality/toys.vector"} for m in ("x", "y")}


def graph_of(toys, posterior, **options):
    nodes = {f"enc_{m}": {"use": "encoder/toys.mlp", "in": m} for m in VECTORS}
    nodes["post"] = {"use": f"posterior/{posterior}", "in": list(nodes), "with": {"latent": 2}}
    nodes["style"] = {"use": "posterior/gaussian", "in": "enc_x", "with": {"latent": 3}}
    nodes["dec_x"] = {"use": "decoder/toys.mlp", "in": {"z": ["post", "style"]}, "out": "x"}
    losses = {"kl": {"use": "loss/capacity_kl", "with": options}}
    return toys.build({"modalities": VECTORS, "nodes": nodes, "losses": losses}).graph.double().eval()


def batch_of(graph):
    present = {"x": torch.tensor([True, True, False, False]), "y": torch.tensor([True, False, True, False])}
    signals = {m: graph.modalities[m].example(4) for m in VECTORS}
    return Batch.of({m: s.map(lambda t: t.double()) for m, s in signals.items()}, present)


def nats(posterior, i):
    """KL of row i by torch, one component after another."""
    q, weights = posterior.distribution, posterior.weights.reshape(-1, 4)
    locs, scales = q.loc.reshape(-1, 4, q.loc.shape[-1]), q.scale.reshape(-1, 4, q.loc.shape[-1])
    total = 0.0
    for w, loc, scale in zip(weights[:, i], locs[:, i], scales[:, i]):
        total += w * kl_divergence(Normal(loc, scale), Normal(0.0, 1.0)).sum() if w > 0 else 0.0
    return total


@pytest.mark.parametrize("posterior", ["poe", "mopoe"])
@pytest.mark.parametrize(("step", "wanted"), [(0, 0.0), (5, 0.3), (10, 0.6), (99, 0.6)])
def test_each_rows_distance_from_the_capacity_that_rises_along_a_line(toys, posterior, step, wanted):
    graph = graph_of(toys, posterior, gamma=7.0, capacity=0.6, capacity_steps=10)
    run = Run(graph, batch_of(graph), clock=Clock(step))
    term = graph.loss("kl")(run, "generator")
    rows = [nats(run["post"], i) + nats(run["style"], i) for i in range(3)]  # the last one has nothing
    torch.testing.assert_close(term.sum, sum((abs(row - wanted) for row in rows), torch.zeros(())).double())
    assert term.count == 3
    torch.testing.assert_close(term.statistics["nats"], sum(rows).detach())
    assert graph.loss("kl").scale(Clock(step)) == 7.0


def test_without_steps_the_capacity_is_whole_at_once_and_globs_choose_posteriors(toys):
    graph = graph_of(toys, "poe", capacity=0.6, capacity_steps=0, nodes=["sty*"])
    run = Run(graph, batch_of(graph))
    wanted = sum(abs(nats(run["style"], i) - 0.6) for i in range(3))
    torch.testing.assert_close(graph.loss("kl")(run, "generator").sum, wanted)


def test_a_graph_without_a_posterior_is_refused(toys):
    nodes = {"noise": {"use": "prior/normal"}, "dec": {"use": "decoder/toys.mlp", "in": "noise", "out": "x"}}
    config = {"modalities": VECTORS, "nodes": nodes, "losses": {"kl": {"use": "loss/capacity_kl"}}}
    with pytest.raises(BuildError, match="no posterior"):
        toys.build(config)
