"""A plugin that somebody else wrote, installed by pip, takes the same path as ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.autograd import gradcheck

from fusion_engine import Features, Widths

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin_gated"
USE = """
import json
from fusion_engine import Widths
from fusion_engine.plugins import load_plugins
from fusion_engine.signature import construct_kwargs, validate_config

plugins = load_plugins()
entry = plugins.registry.resolve("fusion/unit")
kind = entry.load()
fusion = kind({"image": Widths(3, 3), "text": Widths(5, 4)}, **construct_kwargs(kind, {"width": 7}, "node 'f'"))
said = {"listed": list(plugins.registry.entries), "info": plugins.info("gated").as_dict()}
print(json.dumps({**said, "widths": fusion.widths, "config": validate_config(kind, {}, "node 'f'")}))
"""


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> type:
    monkeypatch.syspath_prepend(EXAMPLE)
    from gated_fusion.gated import GatedFusion

    return GatedFusion


def test_installed_plugin_is_found(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", tmp_path, EXAMPLE], check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "FUSION_ENGINE_STRICT": "0"}
    done = subprocess.run(
        [sys.executable, "-c", USE], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    assert "fusion/gated.unit" in said["listed"]
    info = said["info"]
    assert (info["state"], info["distribution"], info["version"]) == ("loaded", "gated-fusion", "0.1.0")
    assert said["widths"] == [7, 7]
    assert said["config"] == {"width": 128}


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
