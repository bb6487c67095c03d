"""A plugin that somebody else wrote, installed by pip, takes the same path as ours."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd import gradcheck

from fusion_engine import Features, Widths

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin_gated"
USE = """
import json
import numpy as np
from fusion_engine import Engine, Widths
from fusion_engine.plugins import load_plugins
from fusion_engine.signature import construct_kwargs, validate_config

plugins = load_plugins()
entry = plugins.registry.resolve("fusion/unit")
kind = entry.load()
fusion = kind({"image": Widths(3, 3), "text": Widths(5, 4)}, **construct_kwargs(kind, {"width": 7}, "node 'f'"))
said = {"listed": list(plugins.registry.entries), "info": plugins.info("gated").as_dict()}
said |= {"widths": fusion.widths, "config": validate_config(kind, {}, "node 'f'")}

rng = np.random.default_rng(0)
rows = {"image": list(rng.random((6, 4, 4))), "curve": list(rng.random((6, 5, 2))), "label": [0, 1, 0, 1, 0, 1]}
rows["image"][0] = rows["curve"][1] = None
engine, short = Engine(), {"epochs": 1, "train": {"batch_size": 3}}
two = {"image": "modality/image", "curve": "modality/sequence"}
config = engine.recipe_config("vae", two, posterior="gaussian", latent=2, components=0, **short)
config["nodes"]["fused"] = {"use": "fusion/gated.unit", "in": config["nodes"]["post"]["in"], "with": {"width": 8}}
config["nodes"]["post"]["in"] = "fused"
models = {
    "vae": engine.build(config),
    "gan": engine.recipe("gan", two, fusion="unit", width=8, **short),
    "classifier": engine.recipe("classifier", {**two, "label": "modality/category"}, fusion="gated.unit", **short),
}
said["models"] = {}
for name, model in models.items():
    fresh = engine.build(model.prepare(rows) and model.config)
    model.fit(rows)
    wiring = model.graph.wiring
    (node,) = [n for n in wiring.of_kind("fusion") if wiring.nodes[n].use == "fusion/gated.unit"]
    before, after = fresh.graph[node].state_dict(), model.graph[node].state_dict()
    players = [p for p, nodes in wiring.players.items() if node in nodes]
    moved = all(not before[key].equal(after[key]) for key in before)
    said["models"][name] = {"player": players, "moved": moved, "steps": model.progress.step}
print(json.dumps(said))
"""


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> type:
    monkeypatch.syspath_prepend(EXAMPLE)
    from gated_fusion.gated import GatedFusion

    return GatedFusion


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a new process says that has the plugin installed."""
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", site, EXAMPLE], check=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "FUSION_ENGINE_STRICT": "0"}
    command = [sys.executable, "-W", "error", "-c", USE]
    done = subprocess.run(command, env=environment, cwd=site, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_installed_plugin_is_found(said: dict[str, Any]) -> None:
    assert "fusion/gated.unit" in said["listed"]
    info = said["info"]
    assert (info["state"], info["distribution"], info["version"]) == ("loaded", "gated-fusion", "0.1.0")
    assert said["widths"] == [7, 7]
    assert said["config"] == {"width": 128}


def test_one_strategy_serves_a_posterior_a_discriminator_and_a_classifier(said: dict[str, Any]) -> None:
    assert said["models"] == {
        "vae": {"player": ["generator"], "moved": True, "steps": 2},
        "gan": {"player": ["discriminator"], "moved": True, "steps": 2},
        "classifier": {"player": ["generator"], "moved": True, "steps": 2},
    }


def test_the_example_is_short_and_uses_public_names_only() -> None:
    source = (EXAMPLE / "gated_fusion" / "gated.py").read_text()
    assert len(source.splitlines()) <= 50
    for line in (EXAMPLE / "gated_fusion").glob("*.py"):
        assert "fusion_engine." not in line.read_text()


def features(*vectors: torch.Tensor) -> dict[str, Features]:
    return {f"x{i}": Features.of_pooled(x) for i, x in enumerate(vectors)}


def test_two_inputs_are_the_papers_sigmoid_gate(gated: type) -> None:
    torch.manual_seed(0)
    fusion = gated({"x0": Widths(3, 3), "x1": Widths(4, 4)}, width=5)
    a, b = torch.randn(6, 3), torch.randn(6, 4)
    fused = fusion(features(a, b), torch.ones(6, 2, dtype=torch.bool)).pooled
    first, second = fusion.scores.weight.chunk(2)
    z = torch.sigmoid(torch.cat([a, b], 1) @ (first - second).T)
    expected = z * torch.tanh(a @ fusion.hidden[0].weight.T) + (1 - z) * torch.tanh(b @ fusion.hidden[1].weight.T)
    torch.testing.assert_close(fused, expected)


def test_absent_inputs_have_no_gate_and_the_rest_is_renormalised(gated: type) -> None:
    torch.manual_seed(0)
    fusion = gated({f"x{i}": Widths(2, 2) for i in range(3)}, width=4).double()
    x = [torch.randn(4, 2, dtype=torch.double) for _ in range(3)]
    present = torch.tensor([[True, False, True], [False, True, False], [False, False, False], [True, True, True]])
    holes = [torch.where(present[:, i, None], x[i], torch.nan) for i in range(3)]
    fused = fusion(features(*holes), present).pooled
    for row, inputs in enumerate(present):
        kept = torch.cat([x[i][row] * float(inputs[i]) for i in range(3)])
        weights = [float(inputs[i]) * (fusion.scores.weight[4 * i : 4 * i + 4] @ kept).exp() for i in range(3)]
        hidden = [torch.tanh(fusion.hidden[i].weight @ x[i][row]) for i in range(3)]
        total = sum(weights)
        expected = sum(w * h for w, h in zip(weights, hidden, strict=True)) / total.where(
            total > 0, torch.ones_like(total)
        )
        torch.testing.assert_close(fused[row], expected)
    fused.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in fusion.parameters())
    inputs = [v.requires_grad_() for v in x]
    assert gradcheck(lambda *v: fusion(features(*v), present).pooled, inputs)
