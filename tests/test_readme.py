"""The README's code runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

from fusion_engine import Engine
from fusion_engine.config import read_yaml
from fusion_engine.testing import check_component

ROOT = Path(__file__).parent.parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_first_example_fuses_two_modalities_with_gaps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(blocks("python")[0], names)
    assert {m: len(samples) for m, samples in names["both"].items()} == {"picture": 16, "reading": 16}
    assert names["both"]["picture"][0].shape == (12, 12)
    assert len(names["readings_of"]) == 2
    whole, pictures, readings = names["whole"], names["pictures"], names["readings"]
    assert whole[3]["picture"].shape == (12, 12)
    assert whole[5]["reading"].shape[1] == 1
    assert whole[0]["picture"] is pictures[0]
    assert whole[0]["reading"] is readings[0]
    np.testing.assert_array_equal(names["same"].generate(2)["picture"], names["model"].generate(2)["picture"])


def test_the_plugin_is_found_and_keeps_the_contract(tmp_path):
    file = tmp_path / "my_fusion.py"
    file.write_text(blocks("python")[1], encoding="utf-8")
    engine = Engine(plugins=[file])
    fusion = engine.registry.resolve("fusion/weighted_mean").load()
    check_component(fusion)
    engine.recipe(
        "classifier",
        modalities={"image": "modality/image", "strokes": "modality/strokes", "label": "modality/category"},
        fusion="weighted_mean",
    )


def test_the_config_builds(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(blocks("yaml")[0], encoding="utf-8")
    assert set(read_yaml(file)) <= set(Engine().build(file).config.plain())


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_two_commands_are_in_the_makefile(target):
    assert f"make {target} " in (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
