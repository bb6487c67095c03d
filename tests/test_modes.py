"""The default game finds every mode of the toy mixtures, evenly, and places its samples near them."""

from pathlib import Path

import pytest
import torch

from fusion_engine import Engine
from fusion_engine.config import override, read_yaml
from fusion_engine.evaluation import Modes, modes

CONFIG = Path(__file__).parents[1] / "examples" / "gaussians.yaml"


def found(engine: Engine, *settings: str) -> Modes:
    config = override(read_yaml(CONFIG), settings)
    data = engine.dataset(config)
    model = engine.build(config).fit(data.train)
    points = torch.tensor(model.generate(10_000)["point"], dtype=torch.double)
    return modes(points, torch.tensor(data.centres), data.deviation)


def test_a_small_gan_finds_the_whole_ring_in_seconds(engine: Engine):
    sizes = ["nodes.dec.with.widths=[64, 64, 64]", "nodes.disc.with.widths=[64, 64, 64]", "train.batch_size=128"]
    few = ["data.with.layout=ring", "data.with.rows=5000", "stages.0.steps=1000", "train.ema_half_life=5000"]
    ring = found(engine, *sizes, *few)
    assert ring.hit == 8
    assert ring.reverse_kl < ring.floor + 0.03
    assert ring.near > 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "count"), [("grid", 25), ("ring", 8)])
def test_the_example_reaches_its_aims(engine: Engine, layout: str, count: int):
    mixture = found(engine, f"data.with.layout={layout}")
    assert mixture.hit == count
    assert mixture.reverse_kl < mixture.floor + 0.03
    assert mixture.near > 0.8
