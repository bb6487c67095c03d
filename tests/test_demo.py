"""What `make demo` promises, measured whole."""

import json
from pathlib import Path

import pytest

from fusion_engine import Engine
from fusion_engine.experiment import run_experiment

DEMO = Path(__file__).parents[1] / "examples" / "digits_vae_gan.yaml"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_four_modalities_are_coherent_and_lifelike(engine: Engine, tmp_path: Path) -> None:
    run_experiment(engine, DEMO, tmp_path)
    found = {f["name"]: f for f in json.loads((tmp_path / "figures.json").read_text())}
    for sources, least in ((1, 0.85), (2, 0.92), (3, 0.95)):
        figure = found[f"conditional coherence: mean from {sources}, text never a source"]
        assert figure["value"] >= least, figure
    assert found["joint coherence: prior mixture"]["value"] >= 0.75
    assert found["well formed: text"]["value"] >= 0.98
    for name in ("image", "audio"):
        assert found[f"Fréchet distance: {name}"]["value"] <= 2 * found[f"Fréchet distance: {name}"]["real"]
        assert found[f"coverage: {name}"]["value"] >= 0.9 * found[f"coverage: {name}"]["real"]
        assert found[f"memorising: {name}"]["value"] <= 0.15
    assert {"image", "audio", "strokes", "text"} <= {p.name.split("_")[0] for p in (tmp_path / "samples").iterdir()}
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
