"""Variants of a config under one protocol: same seeds, data and judges, and tables that say what was measured."""

import copy
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import yaml

from fusion_engine import ConfigError, DataError, Engine, FusionModel
from fusion_engine.report.tables import read_csv
from fusion_engine.study import as_markdown, study

SMALL: dict[str, Any] = yaml.safe_load("""
name: small
modalities:
  image: {use: modality/image}
  mirror: {use: modality/image}
nodes:
  enc_image: {use: encoder/image.conv, in: image, with: {channels: 2, pooled: 8, width: 4}}
  enc_mirror: {use: encoder/image.conv, in: mirror, with: {channels: 2, pooled: 8, width: 4}}
  post: {use: posterior/poe, in: [enc_image, enc_mirror], with: {latent: 4}}
  dec_image: {use: decoder/image.conv, in: {z: post}, out: image, with: {channels: 2}}
  dec_mirror: {use: decoder/image.conv, in: {z: post}, out: mirror, with: {channels: 2}}
losses:
  reconstruction: {use: loss/reconstruction}
  kl: {use: loss/kl}
stages: [{name: train, steps: 2, losses: [reconstruction, kl]}]
data: {use: dataset/digits, with: {modalities: [image, mirror, label], validation: 0.0}}
evaluation: {label: label, samples: 100, epochs: 1}
train: {batch_size: 32}
""")


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances are means of few sets of samples: no value is looked at here."""
    monkeypatch.setattr("fusion_engine.measuring.DRAWS", 2)


def longer(steps: int) -> dict[str, Any]:
    changed = copy.deepcopy(SMALL)
    changed["stages"][0]["steps"] = steps
    return changed


def test_every_variant_meets_every_seed_and_what_is_done_is_not_repeated(engine: Engine, tmp_path: Path) -> None:
    rows = study(engine, {"short": SMALL, "long": longer(4)}, [0, 1], tmp_path)
    runs = list(dict.fromkeys((row["variant"], row["seed"], row["steps"]) for row in rows))
    assert runs == [("short", 0, 2), ("long", 0, 4), ("short", 1, 2), ("long", 1, 4)]
    hashes = {(r["variant"], r["seed"]): r["note"][-16:] for r in rows if r["name"] == "judge of image: accuracy"}
    assert len(set(hashes.values())) == 1  # one judge, whatever it judges
    written = (tmp_path / "figures.csv").read_text()
    assert len(read_csv(tmp_path / "figures.csv")) == len(rows)
    more = study(engine, {"short": SMALL, "long": longer(4), "longest": longer(5)}, [0], tmp_path)
    assert [r for r in more if r["variant"] != "longest"] == read_csv_of(written, tmp_path)
    assert {r["seed"] for r in more if r["variant"] == "longest"} == {0}

    with pytest.raises(ConfigError, match="holds figures of another config as 'short', seed 0"):
        study(engine, {"short": longer(3)}, [0], tmp_path)


def test_processes_share_a_folder_and_its_judges(engine: Engine, tmp_path: Path) -> None:
    alone = study(engine, {"short": SMALL, "long": longer(4)}, [0], tmp_path / "alone")
    study(engine, {"short": SMALL}, [0], tmp_path / "shared")
    others = (tmp_path / "shared" / "figures.csv").read_bytes()
    (judges,) = (tmp_path / "shared" / "judges").iterdir()
    weights = {p: p.stat().st_mtime_ns for p in judges.rglob("*.safetensors")}
    assert len(weights) == 2
    study(engine, {"long": longer(4)}, [0], tmp_path / "shared")
    assert {p: p.stat().st_mtime_ns for p in judges.rglob("*.safetensors")} == weights
    (tmp_path / "shared" / "figures.csv").write_bytes(others)  # as if both had written at once
    (tmp_path / "shared" / "figures.md").unlink()
    together = study(engine, {"short": SMALL, "long": longer(4)}, [0], tmp_path / "shared")
    known = {(r["variant"], r["name"]): (r["value"], r.get("note")) for r in alone}
    assert {(r["variant"], r["name"]): (r["value"], r.get("note")) for r in together} == known
    assert (tmp_path / "shared" / "figures.md").read_text() == as_markdown(together)
    assert read_csv(tmp_path / "shared" / "figures.csv") == together


def read_csv_of(text: str, folder: Path) -> list[dict[str, Any]]:
    path = folder / "again.csv"
    path.write_text(text)
    return read_csv(path)


def test_the_table_holds_means_and_deviations() -> None:
    values = {("a", 0): 0.25, ("a", 1): 0.5, ("b", 0): 20.0}
    rows = [
        {"variant": v, "seed": s, "name": "coverage: image", "value": x, "real": 0.9} for (v, s), x in values.items()
    ]
    mean, deviation = fmean([0.25, 0.5]), stdev([0.25, 0.5])
    assert as_markdown(rows).splitlines() == [
        "| figure | a | b | real data | chance |",
        "|---|---|---|---|---|",
        f"| coverage: image | {mean:.3f} ± {deviation:.3f} | 20.0 | 0.900 ± 0.000 |  |",
    ]


def test_an_interrupted_run_is_not_in_the_tables(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: FusionModel, data: Any, **options: Any) -> FusionModel:
        self.metrics["interrupted"] = True
        return self

    monkeypatch.setattr(FusionModel, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study(engine, {"short": SMALL}, [0], tmp_path)
    assert not (tmp_path / "figures.csv").exists()


def test_a_data_set_without_a_seed_is_the_same_for_every_seed(tmp_path: Path) -> None:
    source = """
from fusion_engine import Dataset, hookimpl

class Fixed(Dataset):
    train = validation = test = ({"image": None},)

@hookimpl
def register_components(registry):
    registry.dataset("fixed", Fixed)
"""
    (tmp_path / "fixed.py").write_text(source)
    fixed = {**SMALL, "data": {"use": "dataset/fixed"}}
    with pytest.raises(DataError, match="no column 'label'"):  # and not that it has no key 'seed'
        study(Engine(plugins=[tmp_path / "fixed.py"]), {"a": fixed}, [0], tmp_path)


def test_what_cannot_be_compared_is_refused(engine: Engine, tmp_path: Path) -> None:
    other = copy.deepcopy(SMALL)
    other["data"]["with"]["noise"] = 0.5
    unjudged = {key: value for key, value in SMALL.items() if key != "evaluation"}
    for variants, message in (
        ({}, "nothing to compare"),
        ({"a": SMALL, "b": other}, "'b' differs from the first in 'data'"),
        ({"a": unjudged}, "'a' cannot be judged"),
    ):
        with pytest.raises(ConfigError, match=message):
            study(engine, variants, [0], tmp_path)


def test_a_distance_is_told_less_its_floor_too() -> None:
    rows = [{"variant": "a", "seed": 0, "name": "Fréchet distance: image", "value": 3.5, "real": 2.0}]
    assert as_markdown(rows).splitlines()[2:] == [
        "| Fréchet distance: image | 3.500 | 2.000 |  |",
        "| Fréchet distance less floor: image | 1.500 | 0.000 |  |",
    ]
