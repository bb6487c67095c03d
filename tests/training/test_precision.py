"""Mixed precision: networks in bfloat16, gradient penalties and sums in single precision; who knows Lightning."""

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from scenario import GAN, VAE, Recorder, build, config, table
from torch import Tensor, nn

import fusion_engine
from fusion_engine import Batch
from fusion_engine.noise import Noise
from fusion_engine.run import Run

MIXED = "bf16-mixed"


def mixed(**losses: Any) -> dict[str, Any]:
    given = config([{"name": "only", "losses": [*VAE, *GAN, *losses], "steps": 12}], precision=MIXED)
    return {**given, "losses": {**given["losses"], **losses}}


def train(given: dict[str, Any]) -> Recorder:
    recorder = Recorder()
    fabric = Fabric(accelerator="cpu", devices=1, precision=given["train"]["precision"])
    build(given).fit(table(), callbacks=[recorder], fabric=fabric)
    return recorder


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[torch.dtype]]:
    """The types that Linear layers return, inside and outside of penalties, and that penalties have."""
    found: dict[str, set[torch.dtype]] = {"penalised": set(), "other": set(), "penalty": set()}
    inside: list[str] = []
    linear, penalised = nn.Linear.forward, Run._exact_gradient

    def forward(self: nn.Linear, x: Tensor) -> Tensor:
        y = linear(self, x)
        found["penalised" if inside else "other"].add(y.dtype)
        return y

    def gradient(self: Run, name: str) -> tuple[Tensor, Tensor]:
        inside.append(name)
        score, squared = penalised(self, name)
        inside.pop()
        found["penalty"] |= {score.dtype, squared.dtype}
        return score, squared

    monkeypatch.setattr(nn.Linear, "forward", forward)
    monkeypatch.setattr(Run, "_exact_gradient", gradient)
    return found


def test_mixed_precision_trains_and_penalties_stay_single(seen: dict[str, set[torch.dtype]]) -> None:
    recorder = train(mixed())
    assert len(recorder.metrics) == 12
    assert torch.bfloat16 in seen["other"]
    assert seen["penalised"] == {torch.float32}
    assert seen["penalty"] == {torch.float32}
    assert all(value.dtype == torch.float32 for value in recorder.live.values())


def test_generated_data_that_was_made_in_bfloat16_can_be_penalised(seen: dict[str, set[torch.dtype]]) -> None:
    """Another game without penalties sees the generated view first, and so it is made within autocast."""
    game = {"use": "loss/non_saturating", "with": {"score": "score", "fakes": {"reconstruction": 1, "prior": 1}}}
    given = mixed(other=game)
    given["stages"][0]["losses"] = ["other", *VAE, *GAN]
    train(given)
    assert seen["penalty"] == {torch.float32}


def test_mixed_precision_is_near_single_precision() -> None:
    """bfloat16 has 8 bits: after a step the losses agree to a per cent or so."""
    single = train({**mixed(), "train": {**mixed()["train"], "precision": "32-true"}})
    half = train(mixed())
    for name, value in single.metrics[1].items():
        if name.endswith(".sign"):  # a score near zero may change its sign
            continue
        assert half.metrics[1][name] == pytest.approx(value, rel=0.03, abs=0.01), name
    assert half.metrics[1] != single.metrics[1]


@pytest.mark.parametrize("autocast", [False, True])
def test_the_approximated_penalty_is_single_and_keyed_by_the_row(autocast: bool) -> None:
    """((D(x + s e) - D(x)) / s)^2 with e of the row, whoever its batch-mates are; its mean is the squared gradient."""
    model = build(mixed())
    model.prepare(table())
    run = next(iter(model.runs(table())))
    exact = Run(model.graph, run.batch, sample=True).score_and_gradient("score")[1].detach()
    model.graph.approximated.add("score")

    def penalty(batch: Batch, seed: int) -> Tensor:
        view = Run(model.graph, batch, noise=Noise(seed, batch.index, batch.total), sample=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = view.score_and_gradient("score")[1]
        assert found.dtype == torch.float32
        return found.detach()

    whole, part = penalty(run.batch, 0), torch.arange(len(run.batch)) % 3 == 1
    torch.testing.assert_close(penalty(run.batch.take(part), 0), whole[part], rtol=1e-3, atol=1e-6)
    mean = torch.stack([penalty(run.batch, seed) for seed in range(200)]).mean(0)
    seen = run.present("score")
    assert (mean[seen].sum() / exact[seen].sum()).item() == pytest.approx(1, abs=0.05)
    assert mean[~seen].tolist() == [0.0] * int((~seen).sum())


def test_only_training_knows_lightning() -> None:
    root = Path(fusion_engine.__file__).parent
    plugins = root.parent / "plugins"
    known = set()
    for file in [*root.rglob("*.py"), *plugins.rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] in ("lightning_fabric", "lightning", "pytorch_lightning") for name in names):
                known.add(file.relative_to(root.parent).parts[:2])
    assert known == {("fusion_engine", "training")}
