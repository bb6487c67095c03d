import math
from itertools import combinations

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import CCA

from fusion_engine import Batch, BuildError, ConfigError, Run, Signal, Term
from fusion_engine_alignment.alignment import vectors_of
from fusion_engine_alignment.deep_cca import canonical_correlations

B = 12
NAMES = ("a", "b", "c")
EMBED = [f"embed_{m}" for m in NAMES]


def graph_of(toys, loss, nodes=("embed_*",), widths=(3, 3, 3), **options):
    config = {
        "modalities": {m: {"use": "modality/toys.vector", "with": {"size": i + 3}} for i, m in enumerate(NAMES)},
        "nodes": {
            **{f"enc_{m}": {"use": "encoder/toys.mlp", "in": m, "with": {"width": 4}} for m in NAMES},
            **{
                f"embed_{m}": {"use": "fusion/projection", "in": f"enc_{m}", "with": {"width": width}}
                for m, width in zip(NAMES, widths, strict=True)
            },
        },
        "losses": {"align": {"use": f"loss/{loss}", "with": {"nodes": list(nodes), **options}}},
    }
    if any("*" in node for node in nodes):  # else a node is left over, which no stage may have
        config["stages"] = [{"name": "train", "epochs": 1, "losses": ["align"]}]
    return toys.build(config).graph.double()


def batch_of(hidden=torch.nan, seed=0, present=None):
    """Rows in which every subset of three vectors occurs; what is missing holds ``hidden``."""
    g = torch.Generator().manual_seed(seed)
    present = present or {m: torch.tensor([(i // 2**j) % 4 != 0 for i in range(B)]) for j, m in enumerate(NAMES)}
    data = {m: torch.randn(B, i + 3, generator=g, dtype=torch.float64) for i, m in enumerate(NAMES)}
    return Batch.of({m: Signal(x.masked_fill(~present[m][:, None], hidden)) for m, x in data.items()}, present)


def term_of(graph, batch):
    """The term, and all gradients."""
    graph.zero_grad()
    term = graph.loss("align")(Run(graph, batch), "generator")
    if term.sum.requires_grad:
        term.sum.backward()
    term = Term(term.sum.detach(), term.count)
    return term, {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in graph.named_parameters()}


def vectors(graph, batch):
    run = Run(graph, batch)
    return {n: vectors_of(run, n).detach().numpy() for n in EMBED}


def shared(batch, least):
    """The rows that each pair counts, as lists."""
    found = {}
    for a, b in combinations(NAMES, 2):
        rows = [i for i in range(B) if batch.present[a][i] and batch.present[b][i]]
        found[a, b] = rows if len(rows) >= least else []
    return found


def clip_by_hand(x, y, i, rows, sharpness):
    def cosine(u, v):
        return float(u @ v / math.sqrt((u @ u) * (v @ v)))

    forth = [math.exp(sharpness * cosine(x[i], y[j])) for j in rows]
    back = [math.exp(sharpness * cosine(x[j], y[i])) for j in rows]
    own = math.exp(sharpness * cosine(x[i], y[i]))
    return -(math.log(own / sum(forth)) + math.log(own / sum(back))) / 2


def siglip_by_hand(x, y, i, rows, sharpness, bias):
    total = 0.0
    for j in rows:
        logit = sharpness * float(x[i] @ y[j]) / (np.linalg.norm(x[i]) * np.linalg.norm(y[j])) + bias
        total -= math.log(1 / (1 + math.exp(-logit if i == j else logit)))
    return total


@pytest.mark.parametrize(
    ("loss", "least", "options", "by_hand"),
    [
        ("clip", 2, {"temperature": 0.2}, lambda *args: clip_by_hand(*args, 5.0)),
        ("siglip", 1, {"sharpness": 2.0, "bias": -1.0}, lambda *args: siglip_by_hand(*args, 2.0, -1.0)),
    ],
)
def test_contrast_is_that_of_a_loop_over_rows_and_pairs(toys, loss, least, options, by_hand):
    graph, batch = graph_of(toys, loss, **options), batch_of()
    v, pairs, expected = vectors(graph, batch), shared(batch, least), 0.0
    counted = {i for rows in pairs.values() for i in rows}
    for i in counted:
        values = [by_hand(v[f"embed_{a}"], v[f"embed_{b}"], i, rows) for (a, b), rows in pairs.items() if i in rows]
        expected += sum(values) / len(values)
    term, gradients = term_of(graph, batch)
    assert 0 < len(counted) < B
    assert len({len(rows) for rows in pairs.values()}) > 1
    assert float(term.sum) == pytest.approx(expected, rel=1e-6)
    assert int(term.count) == len(counted)
    assert all(bool((g != 0).any()) for g in gradients.values())
    run = Run(graph, batch)
    assert graph.loss("align").rows(run, "generator").tolist() == [i in counted for i in range(B)]
    assert not run._memory.keys() & set(graph.wiring.nodes)


def test_deep_cca_is_the_sum_of_singular_values_of_the_whitened_covariance(toys):
    graph = graph_of(toys, "deep_cca", widths=(2, 3, 1), regularisation=0.01, minimum=5, top=2)
    batch = batch_of()
    v, expected = vectors(graph, batch), 0.0

    def inverse_root(s):
        values, directions = np.linalg.eigh(s)
        return directions @ np.diag(values**-0.5) @ directions.T

    pairs = shared(batch, 5)
    for (a, b), rows in pairs.items():
        x, y = v[f"embed_{a}"][rows], v[f"embed_{b}"][rows]
        whole = np.cov(x.T, y.T)
        d = x.shape[1]
        s11, s22 = whole[:d, :d] + 0.01 * np.eye(d), whole[d:, d:] + 0.01 * np.eye(y.shape[1])
        values = np.linalg.svd(inverse_root(s11) @ whole[:d, d:] @ inverse_root(s22), compute_uv=False)
        expected -= len(rows) * values[:2].sum()
    term, _ = term_of(graph, batch)
    assert float(term.sum) == pytest.approx(expected, rel=1e-8)
    assert int(term.count) == len({i for rows in pairs.values() for i in rows})


def test_correlations_are_those_of_a_linear_cca_of_full_rank_data():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 3))
    x = np.c_[z + 0.5 * rng.normal(size=z.shape), rng.normal(size=(200, 1))] @ rng.normal(size=(4, 4))
    y = (z * [1, -2, 0.5] + 0.7 * rng.normal(size=z.shape)) @ rng.normal(size=(3, 3))
    u, w = CCA(3, max_iter=5000, tol=1e-12).fit_transform(x, y)
    reference = sorted((float(np.corrcoef(u[:, i], w[:, i])[0, 1]) for i in range(3)), reverse=True)
    found = canonical_correlations(torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_allclose(found.numpy(), reference, atol=1e-6)
    moved = torch.from_numpy(x @ rng.normal(size=(4, 4)) + 3)
    torch.testing.assert_close(canonical_correlations(moved, torch.from_numpy(y)), found)


def test_gradient_of_correlations_is_that_of_finite_differences():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(9, 3, generator=g, dtype=torch.float64, requires_grad=True)
    y = torch.randn(9, 2, generator=g, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y: canonical_correlations(x, y, 1e-3).sum(), (x, y))


def test_equal_variances_and_dead_features_leave_the_gradient_finite():
    eye = torch.eye(4, dtype=torch.float64)
    x = torch.cat([eye, -eye]).requires_grad_()
    y = torch.cat([x.detach()[:, :2], torch.zeros(8, 1, dtype=torch.float64)], 1).requires_grad_()
    canonical_correlations(x, y, 1e-4).sum().backward()
    assert x.grad.isfinite().all()
    assert y.grad.isfinite().all()


@pytest.mark.parametrize(
    ("loss", "options"), [("clip", {}), ("siglip", {}), ("deep_cca", {"minimum": 5, "regularisation": 0.1})]
)
def test_what_lacks_one_of_a_pair_changes_nothing(toys, loss, options):
    """Rows without ``b`` are as if they were not there, whatever they and their slots hold."""
    graph = graph_of(toys, loss, nodes=["embed_a", "embed_b"], **options)
    present = {m: torch.arange(B) % 4 != 1 if m == "b" else torch.ones(B, dtype=torch.bool) for m in NAMES}
    batch = batch_of(present=present)
    term, gradients = term_of(graph, batch)
    kept = batch.take(present["b"])
    changed = batch_of(hidden=1e3, present=present)
    lacking = ~present["b"]
    for m in ("a", "c"):
        changed.signals[m].data[lacking] = 7.0
    for other in (kept, changed):
        again, found = term_of(graph, other)
        torch.testing.assert_close(again, term)
        torch.testing.assert_close(found, gradients)
    assert int(term.count) == int(present["b"].sum())


@pytest.mark.parametrize(("loss", "enough"), [("clip", 2), ("siglip", 1), ("deep_cca", 7)])
def test_too_few_rows_are_a_term_of_no_rows(toys, loss, enough):
    graph = graph_of(toys, loss, nodes=["embed_a", "embed_b"])
    for together in (0, enough - 1, enough):
        present = {"a": torch.arange(B) < B, "b": torch.arange(B) < together, "c": torch.arange(B) < B}
        term, gradients = term_of(graph, batch_of(present=present))
        learns = any(bool((g != 0).any()) for g in gradients.values())
        counts = together == enough
        assert (int(term.count), learns) == ((enough, True) if counts else (0, False))
        assert counts or float(term.sum) == 0.0
        assert all(bool(g.isfinite().all()) for g in gradients.values())


def test_sharpness_stays_at_a_hundred_and_can_fall_again(toys):
    graph = graph_of(toys, "clip", temperature=0.07)
    loss = graph.loss("align")
    with torch.no_grad():
        loss.log_sharpness.fill_(6.0)
    _, gradients = term_of(graph, batch_of())
    assert float(loss.log_sharpness.detach().exp()) == pytest.approx(100)
    assert float(gradients["losses.align_.log_sharpness"]) != 0
    assert float(graph_of(toys, "siglip").loss("align").log_sharpness.detach().exp()) == pytest.approx(10)


@pytest.mark.parametrize("loss", ["clip", "siglip", "deep_cca"])
def test_terms_are_computed_in_full_precision(toys, loss):
    graph = graph_of(toys, loss, nodes=["embed_a", "embed_b"]).float()
    signals = {m: Signal(s.data.float()) for m, s in batch_of(0.0).signals.items()}
    run = Run(graph, Batch.of(signals))
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        found = graph.loss("align")(run, "generator").sum
        x, y = (vectors_of(run, n) for n in ("embed_a", "embed_b"))
    assert x.dtype == torch.bfloat16
    with torch.no_grad():
        expected = graph.loss("align").compare(x.double(), y.double()).sum()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_nodes_that_cannot_be_aligned_are_refused_in_words(toys):
    with pytest.raises(BuildError, match=r"(?s)different widths.*embed_a: 2, embed_b: 3.*fusion/projection"):
        graph_of(toys, "clip", nodes=["embed_a", "embed_b"], widths=(2, 3, 3))
    with pytest.raises(BuildError, match="one node has nothing to be aligned with"):
        graph_of(toys, "siglip", nodes=["embed_a"])
    with pytest.raises(ConfigError, match=r"(?s)no node 'embd_a'.*embed_a"):
        graph_of(toys, "deep_cca", nodes=["embd_a", "embed_b"])


def config_of(width, *, batch_size, **options):
    return {
        "modalities": {m: {"use": "modality/toys.vector", "with": {"size": 3}} for m in "ab"},
        "nodes": {f"enc_{m}": {"use": "encoder/toys.mlp", "in": m, "with": {"width": width}} for m in "ab"},
        "losses": {"align": {"use": "loss/deep_cca", "with": {"nodes": ["enc_*"], **options}}},
        "stages": [{"name": "train", "epochs": 1, "losses": ["align"]}],
        "train": {"batch_size": batch_size},
    }


def test_batches_too_small_for_the_widths_are_refused_in_words(toys):
    toys.build(config_of(4, batch_size=9))
    with pytest.raises(ConfigError) as caught:
        toys.build(config_of(4, batch_size=8))
    assert str(caught.value).splitlines() == [
        "a batch has too few rows for the widths of the nodes: the correlations would mean nothing",
        "  where: loss 'align', 'nodes'",
        "  expected: 9 rows or more in a micro-batch, one more than the widths of 'enc_a' (4) and 'enc_b' (4) together",
        "  actual: 8 rows: 8 a step",
        "  fix: raise train.batch_size, or make the nodes' width smaller",
    ]
    with pytest.raises(ConfigError, match=r"(?s)'minimum'.*12 rows or more.*8 rows: 8 a step.*lower 'minimum'"):
        toys.build(config_of(4, batch_size=8, minimum=12))
    shared = config_of(4, batch_size=16)
    shared["train"]["accumulate"] = 2
    with pytest.raises(ConfigError, match=r"(?s)8 rows: 16 a step, shared by 2 micro-batches.*lower train.accumulate"):
        toys.build(shared)


def test_data_of_fewer_rows_than_the_widths_need_is_refused_before_training(toys):
    model = toys.build(config_of(4, batch_size=64))
    with pytest.raises(ConfigError, match=r"(?s)8 rows: 8 a step, of 8 rows of data.*train on more rows"):
        model.fit({m: [[0.1 * i, 0.2, 0.3] for i in range(8)] for m in "ab"})
    assert model.fit({m: [[0.1 * i, 0.2 * i**2, 0.3] for i in range(9)] for m in "ab"}).progress.step == 1


def test_a_posterior_and_a_head_are_read_as_vectors(toys):
    config = {
        "modalities": {
            "a": {"use": "modality/toys.vector"},
            "label": {"use": "modality/category", "with": {"classes": ["x", "y", "z"]}},
        },
        "nodes": {
            "enc": {"use": "encoder/toys.mlp", "in": "a"},
            "post": {"use": "posterior/gaussian", "in": "enc", "with": {"latent": 3}},
            "guess": {"use": "head/classification", "in": "enc", "out": "label"},
        },
        "losses": {"align": {"use": "loss/clip", "with": {"nodes": ["post", "guess"]}}},
        "stages": [{"name": "train", "epochs": 1, "losses": ["align"]}],
    }
    model = toys.build(config)
    batch = Batch.of({m: modality.example(6) for m, modality in model.modalities.items()})
    run = Run(model.graph, batch, sample=False)
    assert torch.equal(vectors_of(run, "post"), run["post"].z)
    assert torch.equal(vectors_of(run, "guess"), run["guess"])
    assert int(model.graph.loss("align")(run, "generator").count) == 6
