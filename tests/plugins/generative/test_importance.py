"""Importance-weighted bounds against loops, integrals and each other."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from fusion_engine import Batch, BuildError, Noise, Run, Signal

SIZES = {"x": 4, "y": 2}
PRESENT = {"x": (True, False, True, False), "y": (True, True, False, False)}


def graph_of(toys, loss, posterior="moe", latent=3, private=False, **options):
    inputs = ["enc_x", "enc_y"]
    nodes = {f"enc_{m}": {"use": "encoder/toys.mlp", "in": m} for m in SIZES}
    nodes["post"] = {"use": f"posterior/{posterior}", "in": inputs, "with": {"latent": latent}}
    for m in SIZES:
        if private:
            config = {"own": f"enc_{m}", "latent": 2}
            nodes[f"own_{m}"] = {"use": "posterior/cross_private", "in": inputs, "with": config}
        z = ["post", f"own_{m}"] if private else "post"
        nodes[f"dec_{m}"] = {"use": "decoder/toys.mlp", "in": {"z": z}, "out": m}
    config = {
        "modalities": {m: {"use": "modality/toys.vector", "with": {"size": n}} for m, n in SIZES.items()},
        "nodes": nodes,
        "losses": {"loss": {"use": f"loss/{loss}", "with": {"balance": False, **options}}},
    }
    torch.manual_seed(0)
    graph = toys.build(config).graph.double().eval()
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in graph.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=g, dtype=torch.float64))
    return graph


def run_of(graph, b=4, present=PRESENT, seed=0, same=False):
    signals = {m: v.example(1 if same else b).map(lambda x: x.double()) for m, v in graph.modalities.items()}
    if same:
        signals = {m: Signal(s.data.expand(b, -1)) for m, s in signals.items()}
    given = {m: torch.tensor(p) for m, p in present.items()} if present else None
    return Run(graph, Batch.of(signals, given), noise=Noise.of(b, seed), sample=True)


def sum_of(graph, run, loss="loss"):
    return graph.loss(loss)(run, "generator").sum


def by_hand(graph, run, samples, private, factors):
    """Minus the bound of each row, by loops over rows, components and samples."""
    names = ["post", *([f"own_{m}" for m in SIZES] if private else [])]
    posteriors = {n: run[n] for n in names}
    k = posteriors["post"].z.shape[:-2]
    z = {}
    for n, p in posteriors.items():
        eps = run.noise("importance", n).normal(p.z.shape[-1], lead=[samples, *k]).double()
        z[n] = (p.distribution.loc + p.distribution.scale * eps).reshape(samples, -1, *p.z.shape[-2:])
    flat = {
        n: (p.distribution.loc.reshape(-1, *p.z.shape[-2:]), p.distribution.scale.reshape(-1, *p.z.shape[-2:]))
        for n, p in posteriors.items()
    }
    weights, rows = posteriors["post"].weights.reshape(-1, len(run.batch)), []
    for row in range(len(run.batch)):
        cost = torch.zeros(()).double()
        for c in range(len(weights)):
            if weights[c, row] == 0 or not run.anything()[row]:
                continue
            logs = []
            for s in range(samples):
                shared = z["post"][s, c, row]
                log = Normal(0.0, 1.0).log_prob(shared).sum()
                every = [
                    weights[j, row].log()
                    + Normal(flat["post"][0][j, row], flat["post"][1][j, row]).log_prob(shared).sum()
                    for j in range(len(weights))
                    if weights[j, row] > 0
                ]
                log = log - torch.stack(every).logsumexp(0)
                for i, m in enumerate(SIZES):
                    own = z[f"own_{m}"][s, c, row] if private else shared[:0]
                    if run.batch.present[m][row]:
                        mean = graph[f"dec_{m}"](torch.cat([shared, own])[None], {}).mean.data[0]
                        log = log + factors[m] * Normal(mean, 1.0).log_prob(run.batch.signals[m].data[row]).sum()
                    if private and c == i:
                        q = Normal(flat[f"own_{m}"][0][c, row], flat[f"own_{m}"][1][c, row])
                        log = log + Normal(0.0, 1.0).log_prob(own).sum() - q.log_prob(own).sum()
                logs.append(log)
            cost = cost - weights[c, row] * (torch.stack(logs).logsumexp(0) - math.log(samples))
        rows.append(cost)
    return torch.stack(rows)


@pytest.mark.parametrize("loss", ["iwae", "dreg"])
@pytest.mark.parametrize(
    ("posterior", "private"),
    [("poe", False), ("jmvae", False), ("moe", False), ("mopoe", False), ("mvae", False), ("moe", True)],
)
def test_the_bound_equals_loops_over_rows_components_and_samples(toys, loss, posterior, private):
    graph = graph_of(toys, loss, posterior, private=private, samples=3, chunk=2)
    run = run_of(graph)
    assert_close(sum_of(graph, run), by_hand(graph, run, 3, private, {"x": 1.0, "y": 1.0}).sum())
    assert int(graph.loss("loss")(run, "generator").count) == 3


def test_weights_and_balance_multiply_the_likelihoods(toys):
    graph = graph_of(toys, "iwae", samples=2, balance=True, weights={"x": 0.5})
    run = run_of(graph)
    assert_close(sum_of(graph, run), by_hand(graph, run, 2, False, {"x": 0.5, "y": 2.0}).sum())


@pytest.mark.parametrize("loss", ["iwae", "dreg"])
def test_chunks_change_nothing(toys, loss):
    found = []
    for chunk in (1, 3, 8):
        graph = graph_of(toys, loss, samples=7, chunk=chunk)
        value = sum_of(graph, run_of(graph))
        found.append([value, *torch.autograd.grad(value, list(graph.parameters()))])
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            assert_close(a, b)


@pytest.mark.parametrize("posterior", ["poe", "jmvae"])
def test_one_sample_is_the_elbo_in_the_mean(toys, posterior):
    graph = graph_of(toys, "iwae", posterior, samples=1)
    b = 20_000
    run = run_of(graph, b, None, same=True)
    with torch.no_grad():
        q = run["post"].distribution
        kl = kl_divergence(Normal(q.loc[0], q.scale[0]), Normal(0.0, 1.0)).sum()
        z = q.loc[0] + q.scale[0] * torch.randn(b, 3, generator=torch.Generator().manual_seed(9)).double()
        log_p = sum(
            Normal(graph[f"dec_{m}"](z, {}).mean.data, 1.0).log_prob(run.batch.signals[m].data).sum(-1) for m in SIZES
        )
        elbo = log_p.mean() - kl
        assert_close(-sum_of(graph, run) / b, elbo, atol=6 * float(log_p.std()) / math.sqrt(b) + 0.02, rtol=0)


@pytest.mark.parametrize(
    ("posterior", "present"), [("jmvae", (True, True)), ("moe", (True, True)), ("moe", (True, False))]
)
def test_the_bound_grows_with_the_samples_towards_the_integral(toys, posterior, present):
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    bounds, b = [], 400
    for samples in (1, 8, 200):
        graph = graph_of(toys, "iwae", posterior, latent=1, samples=samples, chunk=50)
        with torch.no_grad():
            for p in graph["post"].parameters():
                p.mul_(0.3)  # wide posteriors: weights without long tails
        run = run_of(graph, b, {m: (p,) * b for m, p in zip(SIZES, present, strict=True)}, same=True)
        with torch.no_grad():
            bounds.append(-sum_of(graph, run).item() / b)
    log = Normal(0.0, 1.0).log_prob(grid)
    for m, here in zip(SIZES, present, strict=True):
        if here:
            mean = graph[f"dec_{m}"](grid[:, None], {}).mean.data
            log = log + Normal(mean, 1.0).log_prob(run.batch.signals[m].data[:1]).sum(-1).detach()
    exact = torch.trapezoid(log.exp(), grid).log().item()
    assert bounds[0] < bounds[1] < bounds[2] + 0.01
    assert bounds[0] < exact - 0.05
    if posterior == "jmvae" or not all(present):  # one component: nothing else stands between bound and integral
        assert bounds[2] == pytest.approx(exact, abs=0.02)
    else:
        assert bounds[2] < exact + 0.01


def learned(graph, samples, steps):
    """Take a few steps of Adam along IWAE's gradient."""
    optimizer = torch.optim.Adam(graph.parameters(), 2e-2)
    for step in range(steps):
        optimizer.zero_grad()
        (sum_of(graph, run_of(graph, 100, None, 1000 + step, same=True)) / 100).backward()
        optimizer.step()
    return graph.state_dict()


def gradients(toys, loss, posterior, private, samples, state=None, seeds=30, b=50):
    graph = graph_of(toys, loss, posterior, private=private, samples=samples)
    graph.load_state_dict(state or graph.state_dict())
    found = []
    for seed in range(seeds):
        value = sum_of(graph, run_of(graph, b, None, seed, same=True)) / b
        each = torch.autograd.grad(value, list(graph.parameters()))
        found.append(torch.cat([g.flatten() for g in each]))
    of_decoders = torch.cat([torch.full([p.numel()], "dec_" in n) for n, p in graph.named_parameters()])
    return torch.stack(found), of_decoders


CASES = [
    ("poe", False, 1),
    ("poe", False, 4),
    ("moe", False, 1),
    ("moe", False, 4),
    ("mopoe", False, 4),
    ("moe", True, 4),
]


@pytest.mark.parametrize(("posterior", "private", "samples"), CASES)
def test_dregs_gradient_is_iwaes_in_the_mean(toys, posterior, private, samples):
    plain, decoders = gradients(toys, "iwae", posterior, private, samples)
    double, _ = gradients(toys, "dreg", posterior, private, samples)
    assert_close(double[:, decoders], plain[:, decoders])
    difference = (double - plain)[:, ~decoders]
    error = difference.std(0) / math.sqrt(len(difference))
    assert (difference.mean(0).abs() <= 4.5 * error + 1e-9).all()
    assert difference.abs().max() > 1e-4


@pytest.mark.parametrize(("posterior", "private"), [("poe", False), ("moe", False), ("moe", True)])
def test_dregs_gradient_scatters_less_once_the_posterior_has_learned(toys, posterior, private):
    graph = graph_of(toys, "iwae", posterior, private=private, samples=4)
    state = learned(graph, 4, 50)
    plain, decoders = gradients(toys, "iwae", posterior, private, 4, state, seeds=12)
    double, _ = gradients(toys, "dreg", posterior, private, 4, state, seeds=12)
    assert double[:, ~decoders].var(0).sum() < 0.1 * plain[:, ~decoders].var(0).sum()


def test_dreg_of_one_sample_does_not_scatter_where_the_posterior_is_exact(toys):
    """log w is constant in z there, so its path derivative is zero: equal experts, decoders that ignore z."""
    for loss, quiet in (("dreg", True), ("iwae", False)):
        graph = graph_of(toys, loss, samples=1)
        with torch.no_grad():
            for name, p in graph.named_parameters():
                if "post" in name or "dec_" in name:
                    p.zero_()
        value = sum_of(graph, run_of(graph))
        found = torch.cat([g.flatten() for g in torch.autograd.grad(value, list(graph["post"].parameters()))])
        assert bool(found.abs().max() < 1e-12) is quiet


def test_what_is_no_bound_is_refused(toys):
    config = {
        "modalities": {m: {"use": "modality/toys.vector", "with": {"size": n}} for m, n in SIZES.items()},
        "nodes": {
            "enc_x": {"use": "encoder/toys.mlp", "in": "x"},
            "enc_y": {"use": "encoder/toys.mlp", "in": "y"},
            "top": {"use": "posterior/poe", "in": ["enc_x", "enc_y"], "with": {"latent": 3}},
            "low": {"use": "posterior/poe", "in": ["enc_x", "top"], "with": {"latent": 3}},
            "dec_x": {"use": "decoder/toys.mlp", "in": {"z": ["top", "low"]}, "out": "x"},
            "dec_y": {"use": "decoder/toys.mlp", "in": {"z": "low"}, "out": "y"},
        },
        "losses": {"loss": {"use": "loss/iwae"}},
    }
    with pytest.raises(BuildError, match="'dec_y' does not decode"):
        toys.build(config)
    config["nodes"]["dec_y"]["in"] = {"z": "enc_y"}
    with pytest.raises(BuildError, match="'dec_y' does not decode"):
        toys.build(config)
    config["nodes"]["dec_y"]["in"] = {"z": "low"}
    config["nodes"]["low"] = {"use": "posterior/mopoe", "in": ["enc_x", "enc_y"], "with": {"latent": 3}}
    config["nodes"]["top"]["use"] = "posterior/moe"
    config["nodes"]["dec_x"]["in"] = {"z": "top"}
    with pytest.raises(BuildError, match="different components"):
        toys.build(config)
