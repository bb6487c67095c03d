"""Inputs of a node that are hidden in training."""

import copy
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from fusion_engine import Batch, Engine, Noise, Run, Signal, thin

TOYS = Path(__file__).with_name("toys.py")
B = 64
CONFIG = {
    "modalities": {name: {"use": "modality/toys.vector", "with": {"size": 2}} for name in ("x", "y")},
    "nodes": {
        "enc_x": {"use": "encoder/toys.mlp", "in": "x"},
        "enc_y": {"use": "encoder/toys.mlp", "in": "y"},
        "both": {"use": "fusion/concat", "in": ["enc_x", "enc_y"], "with": {"width": 4}, "modality_dropout": 0.4},
        "score": {"use": "head/score", "in": "both"},
    },
}


@pytest.fixture(scope="module")
def graph():
    return Engine(plugins=[TOYS]).build(CONFIG).graph


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    signals = {name: Signal(torch.randn(B, 2, generator=generator)) for name in ("x", "y")}
    return Batch.of(signals, {"y": torch.arange(B) % 4 > 0})


def fused(run: Run) -> torch.Tensor:
    return run["both"].pooled


def test_each_input_is_hidden_with_that_probability_and_never_all_of_them():
    rows = torch.tensor([[True, True, True], [False, True, True], [False, False, False]]).repeat(3000, 1)
    kept = thin(rows, 0.4, Noise.of(len(rows), 0))
    assert not (kept & ~rows).any()
    whole, pair, none = kept[0::3], kept[1::3], kept[2::3]
    assert whole.any(1).all()
    assert pair.any(1).all()
    assert not none.any()
    # a subset of three has .6^k .4^(3-k), and the empty one, .064, falls to the three single ones
    shares = [float((whole.sum(1) == size).double().mean()) for size in (1, 2, 3)]
    assert_close(shares, [3 * 0.6 * 0.16 + 0.064, 3 * 0.36 * 0.4, 0.216], atol=0.03, rtol=0)
    assert abs(float(whole[:, 0].double().mean()) - (0.6 + 0.064 / 3)) < 0.03


def test_rows_are_fused_as_if_they_lacked_what_is_hidden(graph):
    data = batch()
    noise = Noise.of(B, 7)
    graph.train()
    hidden = thin(torch.stack([data.present["x"], data.present["y"]], 1), 0.4, noise.at("modality_dropout", "both"))
    poorer = Batch.of(dict(data.signals), {"x": hidden[:, 0], "y": hidden[:, 1]})
    assert 0 < int((hidden != torch.stack([data.present["x"], data.present["y"]], 1)).sum()) < B
    found = fused(Run(graph, data, noise=noise))
    graph.eval()
    assert_close(found, fused(Run(graph, poorer, noise=noise)), rtol=0, atol=0)
    whole = fused(Run(graph, data, noise=noise))
    assert not torch.equal(found, whole)
    assert torch.equal(whole, fused(Run(graph, data, noise=Noise.of(B, 8))))


def test_every_view_of_a_discriminator_lacks_the_same(graph):
    graph.train()
    run = Run(graph, batch(), noise=Noise.of(B, 7))
    view = run.replay({"x": run["x"]}, label=("generated", "prior"))
    assert "both" in view.stale
    assert torch.equal(fused(view), fused(run))
    graph.eval()


def test_without_the_key_nothing_is_hidden():
    config = copy.deepcopy(CONFIG)
    del config["nodes"]["both"]["modality_dropout"]
    graph = Engine(plugins=[TOYS]).build(config).graph.train()
    assert torch.equal(*(fused(Run(graph, batch(), noise=Noise.of(B, seed))) for seed in (7, 8)))
