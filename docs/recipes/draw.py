"""Draw every recipe as it wires images and texts (a label where it predicts one): ``python docs/recipes/draw.py``."""

from pathlib import Path
from typing import Any

from fusion_engine import Engine
from fusion_engine.report.diagram import standalone

FOLDER = Path(__file__).parent
BOTH = {"image": "modality/image", "text": "modality/text"}
LABELLED = {**BOTH, "label": "modality/category"}
DRAWN: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "autoencoder": (LABELLED, {"target": "label"}),
    "vae": (BOTH, {}),
    "beta_vae": (BOTH, {"capacity": 25.0}),
    "aae": (BOTH, {}),
    "gan": (LABELLED, {"given": ["label"]}),
    "bigan": (BOTH, {}),
    "vae_gan": (BOTH, {}),
    "alpha_gan": (BOTH, {}),
    "inverted_vae_gan": (BOTH, {}),
    "ae_gan": (BOTH, {}),
    "classifier": (LABELLED, {}),
    "auxiliary": (LABELLED, {}),
    "contrastive": (BOTH, {}),
}
"""By recipe: the modalities and options that it is drawn with."""


def drawing(engine: Engine, recipe: str) -> str:
    """The drawing of one recipe; no torch is needed."""
    modalities, options = DRAWN[recipe]
    return standalone(engine.check(engine.recipe_config(recipe, modalities, **options)))


def main() -> None:
    """Write them all."""
    engine = Engine()
    for recipe in DRAWN:
        (FOLDER / f"{recipe}.svg").write_text(drawing(engine, recipe), encoding="utf-8")


if __name__ == "__main__":
    main()
