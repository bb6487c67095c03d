"""A recurrent GAN learns in which order things happen: the second channel follows the first by two steps."""

import numpy as np
import pytest

from fusion_engine import Engine, FusionModel
from fusion_engine.order_test import order_test

pytestmark = pytest.mark.slow
LAG, STEPS = 2, 10
RANDOM = np.random.default_rng(0)


def waves(n: int) -> list[np.ndarray]:
    """Sines of differing period and phase, with noise; channel 1 lags behind channel 0."""
    t = np.arange(STEPS)
    found = []
    for _ in range(n):
        period, phase = RANDOM.uniform(6, 9), RANDOM.uniform(0, 2 * np.pi)
        pair = [np.sin(2 * np.pi * (t - lag) / period + phase) for lag in (0, LAG)]
        found.append(np.stack(pair, 1) + 0.05 * RANDOM.standard_normal((STEPS, 2)))
    return found


def correlations(rows: list[np.ndarray]) -> dict[int, float]:
    """The mean correlation of channel 0 with channel 1 so many steps later."""

    def at(row: np.ndarray, lag: int) -> float:
        first, second = row[max(0, -lag) : STEPS - max(0, lag), 0], row[max(0, lag) : STEPS - max(0, -lag), 1]
        return float(np.corrcoef(first, second)[0, 1])

    return {lag: float(np.mean([at(row, lag) for row in rows])) for lag in range(-4, 5)}


@pytest.fixture(scope="module")
def model() -> FusionModel:
    options = {"latent": 4, "noise": 2, "width": 32, "length": STEPS, "epochs": 50}
    made = Engine().recipe("recurrent_gan", {"x": "modality/sequence"}, **options, train={"ema_half_life": 500})
    return made.fit({"x": waves(512)})


def test_the_discriminator_minds_the_order(model: FusionModel) -> None:
    found = order_test(model, {"x": waves(256)}, "x")
    assert found.auroc > 0.9
    assert found.minds_order


def test_generated_channels_keep_their_lag_and_shuffled_ones_do_not(model: FusionModel) -> None:
    generated = model.generate(256)["x"]
    assert {len(row) for row in generated} == {STEPS}  # as long as all of the data, which the hazard learned
    found = correlations(generated)
    assert max(found, key=found.__getitem__) == LAG
    assert found[LAG] > 0.7
    shuffled = correlations([RANDOM.permutation(row) for row in generated])
    assert max(map(abs, shuffled.values())) < 0.3
