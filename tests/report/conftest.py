from pathlib import Path

import numpy as np
import pytest
from page_data import EVIL, FIGURES

from fusion_engine import Engine, FusionModel
from fusion_engine.report.page import write_page


@pytest.fixture(scope="session")
def media() -> Engine:
    """An engine that has the toy modalities with pictures, sounds and texts."""
    return Engine(plugins=[Path(__file__).parent / "toy_media.py"])


@pytest.fixture(scope="session")
def rows() -> list[dict[str, float]]:
    numbers = np.random.default_rng(0).normal(size=64).tolist()
    return [{name: float(x) for name in ("patch", "tone", "word")} for x in [0.9, *numbers]]


@pytest.fixture(scope="session")
def model(media: Engine, rows: list[dict[str, float]]) -> FusionModel:
    """A VAE-GAN of a picture, a sound and a text, trained for a moment."""
    chosen = {name: f"modality/toy_media.{name}" for name in ("patch", "tone", "word")}
    config = media.recipe_config("vae_gan", chosen, latent=4, epochs=[3, 1, 2], posterior="mopoe", name=EVIL)
    return media.build(config).fit(rows)


@pytest.fixture(scope="session")
def report(model: FusionModel, rows: list[dict[str, float]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of that model."""
    sections = [(EVIL, f"# One\n\n{EVIL}\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n")]
    facts = {"seed": "0", "commit": EVIL}
    folder = tmp_path_factory.mktemp("report")
    return write_page(folder, model, rows=rows, figures=FIGURES, sections=sections, facts=facts)
