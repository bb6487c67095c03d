"""Dirichlet opinions: Dempster's rule over the power set, and the loss by numerical integration of the Dirichlet."""

import math
from functools import reduce
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import dirichlet

from fusion_engine import BuildError, Clock, Run
from fusion_engine.testing import toy_batch, toy_graph
from fusion_engine_ensembles.dempster import combined_evidence, opinion
from fusion_engine_ensembles.evidential import Evidential
from fusion_engine_ensembles.evidential_loss import EvidentialLoss, evidential_loss
from fusion_engine_ensembles.members import Outputs

RANDOM = np.random.default_rng(0)


def masses(evidence):
    """Write evidence [c] as masses of subsets: of each class alone, and of the whole frame."""
    strength = evidence.sum() + len(evidence)
    frame = frozenset(range(len(evidence)))
    return {**{frozenset({k}): e / strength for k, e in enumerate(evidence)}, frame: len(evidence) / strength}


def dempster(a, b):
    """Dempster's rule: masses of intersections, without the empty one, scaled to one."""
    frame = frozenset().union(*a)
    power = [frozenset(s) for r in range(len(frame) + 1) for s in combinations(frame, r)]
    found = {s: sum(a[p] * b[q] for p in a for q in b if p & q == s) for s in power}
    conflict = found.pop(frozenset())
    return {s: mass / (1 - conflict) for s, mass in found.items()}


@pytest.mark.parametrize("m", [1, 2, 4])
def test_opinions_are_combined_by_dempsters_rule(m):
    evidence = RANDOM.gamma(1.0, 5.0, size=(m, 6, 3))
    belief, uncertainty = opinion(evidence)
    for n in range(6):
        expected = reduce(dempster, [masses(e[n]) for e in evidence])
        np.testing.assert_allclose(belief[n], [expected[frozenset({k})] for k in range(3)], rtol=1e-10)
        np.testing.assert_allclose(uncertainty[n], expected[frozenset(range(3))], rtol=1e-10)
        pairs = [mass for s, mass in expected.items() if len(s) == 2]
        assert max(pairs, default=0.0) == 0.0


def test_the_order_does_not_matter_and_no_evidence_changes_nothing():
    evidence = RANDOM.gamma(1.0, 5.0, size=(3, 4, 3))
    silent = np.full([1, 4, 3], np.nan)
    for other in (evidence[[2, 0, 1]], np.concatenate([silent, evidence]), np.concatenate([evidence, 0 * evidence])):
        np.testing.assert_allclose(opinion(other)[0], opinion(evidence)[0], rtol=1e-12)
    np.testing.assert_array_equal(opinion(silent)[1], np.ones(4))


def test_strong_evidence_of_many_neither_overflows_nor_loses_mass():
    evidence = np.zeros([200, 1, 3])
    evidence[:100, 0, 0] = evidence[100:, 0, 1] = 1e30
    belief, uncertainty = opinion(evidence)
    np.testing.assert_allclose(belief, [[0.5, 0.5, 0.0]], atol=1e-12)
    assert np.isfinite(uncertainty).all()


def test_combined_evidence_is_what_the_opinion_stands_for():
    evidence = RANDOM.gamma(1.0, 5.0, size=(3, 4, 3))
    belief, uncertainty = opinion(evidence)
    found = combined_evidence(torch.as_tensor(evidence)).numpy()
    np.testing.assert_allclose(found, 3 * belief / uncertainty[:, None])


def test_probabilities_count_as_observations():
    rows = [{"a": [0.7, 0.2, 0.1], "b": [0.1, 0.6, 0.3]}, {"b": [0.1, 0.6, 0.3]}, {}]
    members = [(name, Outputs(name, ["x", "y", "z"])) for name in ("a", "b")]
    ensemble = Evidential(members, strength=6.0).fit(rows, ["x", "y", "z"])
    a, b = masses(6 * np.array(rows[0]["a"])), masses(6 * np.array(rows[0]["b"]))
    expected = [dempster(a, b), b, masses(np.zeros(3))]
    frame = frozenset(range(3))
    found = ensemble.predict_proba(rows)
    for p, u, mass in zip(found, ensemble.uncertainty(rows), expected, strict=True):
        np.testing.assert_allclose(p, [mass[frozenset({k})] + mass[frame] / 3 for k in range(3)])
        assert u == pytest.approx(mass[frame])


def test_the_loss_is_an_expectation_under_the_dirichlet():
    """E[-log p_label], and KL to the uniform Dirichlet by quadrature over p of a two-class Dirichlet, a beta."""
    p = (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
    for evidence, label, share in (([3.0, 1.0], 0, 0.0), ([3.0, 1.0], 1, 0.7), ([0.5, 2.0], 0, 1.0)):
        e = torch.tensor([evidence], dtype=torch.float64)
        density = torch.as_tensor(dirichlet([evidence[0] + 1, evidence[1] + 1]).pdf(np.stack([p, 1 - p])))
        expected = float((density * -(p if label == 0 else 1 - p).log()).mean())
        beside = [1.0 if k == label else evidence[k] + 1 for k in range(2)]
        wrong = torch.as_tensor(dirichlet(beside).pdf(np.stack([p, 1 - p])))
        expected += share * float((wrong * wrong.log()).mean())  # the uniform density is 1
        assert float(evidential_loss(e, torch.tensor([label]), share)) == pytest.approx(expected, abs=1e-4)


def test_the_divergence_is_annealed_by_steps():
    loss = EvidentialLoss(toy_graph(), annealing_steps=10)
    assert [loss.share(Clock(step)) for step in (0, 5, 10, 99)] == [0.0, 0.5, 1.0, 1.0]
    assert EvidentialLoss(toy_graph(), annealing_steps=0).share(Clock(0)) == 1.0


def two_views():
    """Wire the toys so that two heads predict the label, one a modality."""
    from fusion_engine.build import build, complete
    from fusion_engine.config import read_config
    from fusion_engine.testing import toy_registry

    nodes = {}
    for m in ("vector", "series"):
        nodes[f"enc_{m}"] = {"use": "encoder/toys.linear", "in": m}
        nodes[f"head_{m}"] = {"use": "head/toys.classifier", "in": f"enc_{m}", "out": "label"}
    modalities = {"vector": "toys.vector", "series": "toys.sequence", "label": "toys.category"}
    config = read_config(
        {
            "modalities": {m: {"use": f"modality/{use}"} for m, use in modalities.items()},
            "nodes": nodes,
            "losses": {},
        }
    )
    return build(complete(config, toy_registry()), toy_registry())


def test_views_are_trained_each_and_together_where_a_row_has_them():
    graph = two_views()
    batch = toy_batch(graph)
    run = Run(graph, batch)
    with torch.no_grad():
        term = EvidentialLoss(graph, annealing_steps=0)(run, "generator")
    heads, total, rows = ("head_vector", "head_series"), 0.0, 0
    for n in range(len(batch)):
        given = [h for h in heads if bool(batch.present[h.removeprefix("head_")][n])]
        if not given or not bool(batch.present["label"][n]):
            continue
        label = batch.signals["label"].data[n : n + 1]
        evidence = [torch.log1p(run[h][n : n + 1].detach().exp()) for h in given]
        odds = math.prod(1 + e / 4 for e in evidence)  # of four classes
        total += sum(float(evidential_loss(e, label, 1.0)) for e in [*evidence, 4 * (odds - 1)])
        rows += 1
    assert (float(term.sum), int(term.count)) == (pytest.approx(total, rel=1e-5), rows)
    assert 0 < rows < len(batch)


@pytest.mark.parametrize("heads", [["score"], ["classify", "estimate"], ["rank"]])
def test_heads_that_give_no_logits_of_one_label_are_refused(heads):
    with pytest.raises(BuildError, match="do not predict one label"):
        EvidentialLoss(toy_graph(), heads=heads)
