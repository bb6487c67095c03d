"""Every example runs: with one step a stage here, whole on request."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from fusion_engine import Engine
from fusion_engine.training import Trainer

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
ARGUMENTS = {
    "05_augment_scarce_data.py": ["--seeds", "1"],
    "03_vae_gan_against_vae.py": ["--seeds", "1", "--set", "data.with.pairings=1"],
    "07_modes.py": ["--seeds", "0", "--layouts", "ring"],
    "08_against_multivae.py": ["--seeds", "1", "--models", "MMVAE+", "--set", "data.with.pairings=1"],
}
"""Of examples that would take an hour without."""
BRIEF = [
    *("--set", "evaluation.samples=100", "--set", "evaluation.epochs=1"),
    *("--set", "nodes.mixture.with.components=2"),
]
QUICK = {
    "03_vae_gan_against_vae.py": BRIEF,
    "08_against_multivae.py": BRIEF,
    "07_modes.py": ["--set", "data.with.rows=500"],
}
"""Further ones where no result is looked at."""
CONFIGS = sorted(EXAMPLES.glob("*.yaml"))


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


@pytest.mark.parametrize("path", SCRIPTS, ids=names(SCRIPTS))
def test_every_example_runs_with_one_step_a_stage(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Trainer, "steps", lambda self, stage: 1)
    monkeypatch.setattr("fusion_engine.measuring.DRAWS", 2)
    monkeypatch.setattr(sys, "argv", [str(path), *ARGUMENTS.get(path.name, []), *QUICK.get(path.name, [])])
    monkeypatch.chdir(tmp_path)
    source = ast.parse(path.read_text(), path)
    source.body = [line for line in source.body if not isinstance(line, ast.Assert)]  # of what it has not learned
    exec(compile(source, path, "exec"), {"__name__": "__main__", "__file__": str(path)})
    assert capsys.readouterr().out.strip(), "it prints no result"


@pytest.mark.slow
@pytest.mark.parametrize("path", SCRIPTS, ids=names(SCRIPTS))
def test_every_example_runs_to_its_end(path: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, path, *ARGUMENTS.get(path.name, [])], cwd=tmp_path, check=True)


@pytest.mark.parametrize("path", SCRIPTS, ids=names(SCRIPTS))
def test_every_example_is_short_and_tells_its_result(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) < 100
    assert "Result" in source
    assert "import fusion_engine_" not in source


@pytest.mark.parametrize("path", CONFIGS, ids=names(CONFIGS))
def test_every_config_can_be_built(path: Path, engine: Engine) -> None:
    wiring = engine.check(path)
    model = engine.build(path)
    assert set(model.graph.wiring.order) == set(wiring.nodes)
    assert path.read_text().startswith("#")
    engine.dataset(model.config)
