"""The classic GANs as configs: each can be built and trained on its data, and modes of stacked digits are counted."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from fusion_engine import Engine
from fusion_engine.config import override, read_yaml

FOLDER = Path(__file__).parents[1] / "examples" / "gan"
CONFIGS = sorted(FOLDER.glob("*.yaml"))
SHAPES = {"mlp_28": (28, 28), "dcgan_28": (28, 28), "dcgan_64_colour": (64, 64, 3), "stacked": (8, 8, 3)}
STEPS = {"dcgan_64_colour": 1}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_trains_on_its_data(path: Path, engine: Engine) -> None:
    assert path.read_text().startswith("#")
    plain = override(read_yaml(path), ["train.batch_size=8"])
    assert plain["name"] == path.stem
    (stage,) = plain["stages"]
    stage.pop("epochs", None)
    stage["steps"] = STEPS.get(path.stem, 2)
    model = engine.build(plain)
    rows = engine.dataset(model.config).train
    model.fit(rows[: len(rows) // 8])
    given = {m: [row[m] for row in rows[:3]] for m in model.conditions}
    images = model.generate(3, given=given)["image"]
    assert [image.shape for image in images] == [SHAPES.get(path.stem, (8, 8))] * 3
    assert all(np.isfinite(image).all() for image in images)
    assert not model.graph.approximated
    assert {row["stage"] for row in model.progress.history} == {stage["name"]}


@pytest.fixture(scope="module")
def stacked() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stacked_example", FOLDER / "stacked.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Table:
    """Stands for a model or a judge: an image's first pixel is its digit, and samples are those of a list."""

    def __init__(self, images: list[np.ndarray]) -> None:
        self.images = images

    def predict(self, data: dict[str, list[np.ndarray]]) -> list[int]:
        return [int(image[0, 0]) for image in data["image"]]

    def generate(self, n: int, seed: int) -> dict[str, list[np.ndarray]]:
        return {"image": self.images[seed * 1024 : seed * 1024 + n]}


def image_of(number: int) -> np.ndarray:
    return np.tile(np.array([number // 100, number // 10 % 10, number % 10]), (8, 8, 1))


def test_modes_are_counted_by_their_three_digits(stacked: ModuleType) -> None:
    numbers = [7, 123, 999, 123]
    assert stacked.mode_of(Table([]), [image_of(x) for x in numbers]).tolist() == numbers
    half = [image_of(i % 500) for i in range(2000)]
    found = stacked.counted(Table([]), Table(half), 2000)
    assert found.modes == 500
    assert found.reverse_kl == pytest.approx(np.log(2))  # half of the modes, all of them alike
    assert 0.2 < found.floor < 0.35  # about (1000 - 1) / 4000
    assert stacked.counted(Table([]), Table([image_of(5)] * 1500), 1500).modes == 1


@pytest.mark.slow
def test_a_short_run_of_stacked_digits_hits_most_modes(stacked: ModuleType, engine: Engine) -> None:
    torch.manual_seed(0)
    plain = override(read_yaml(FOLDER / "stacked.yaml"), ["stages.0.steps=1500"])
    model = engine.build(plain)
    data = engine.dataset(model.config)
    model.fit(data.train)
    judge = stacked.train_judge(engine, data.digits(), 15)
    found = stacked.counted(judge, model, 5000)
    assert found.modes > 700
    assert found.reverse_kl < found.floor + 1
