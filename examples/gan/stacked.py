"""Count the modes of a thousand that a GAN of stacked digits hits, and how evenly it does.

    fusion-engine train examples/gan/stacked.yaml
    python examples/gan/stacked.py runs/stacked --samples 25600

Each colour of a sample is judged by one classifier of single digits; the three digits are the sample's mode. Test
images, judged alike, and a perfect sampler of as many samples stand beside it.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from fusion_engine import Engine, FusionModel
from fusion_engine.evaluation import reverse_kl, reverse_kl_floor

MODES = 1000
SHARE = 1024
"""Samples made and judged at once."""


@dataclass(frozen=True)
class Found:
    """How many modes have any sample, and how far the shares are from the data's, beside a perfect sampler's."""

    modes: int
    reverse_kl: float
    floor: float


def train_judge(engine: Engine, digits: Sequence[Any], epochs: int) -> FusionModel:
    """Train a classifier of single digits."""
    parts = {"image": "modality/image", "label": "modality/category"}
    judge = engine.recipe("classifier", parts, target="label", fusion="concat", width=64, epochs=epochs)
    return judge.fit(digits)


def mode_of(judge: FusionModel, images: Sequence[Any]) -> Tensor:
    """Judge every colour of images [8 8 3], and put the digits together as a number."""
    channels = [judge.predict({"image": [image[:, :, c] for image in images]}) for c in range(3)]
    return torch.tensor(channels).T @ torch.tensor([100, 10, 1])


def counted(judge: FusionModel, model: FusionModel, samples: int) -> Found:
    """Count the modes of generated samples."""
    sizes = [min(SHARE, samples - done) for done in range(0, samples, SHARE)]
    found = torch.cat([mode_of(judge, model.generate(n, seed=i)["image"]) for i, n in enumerate(sizes)])
    every = torch.arange(MODES)
    touched = len(found.unique())
    return Found(touched, reverse_kl(found, every, MODES), reverse_kl_floor(every, MODES, samples))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--samples", type=int, default=25_600)
    parser.add_argument("--epochs", type=int, default=30, help="of the judge")
    chosen = parser.parse_args()
    engine = Engine()
    model = engine.load(chosen.run / "model")
    data = cast(Any, engine.dataset(model.config))
    judge = train_judge(engine, data.digits(), chosen.epochs)
    right = mode_of(judge, [row["image"] for row in data.test]) == torch.tensor([row["label"] for row in data.test])
    found = counted(judge, model, chosen.samples)
    print(f"judge of three digits at once: {right.double().mean():.3f} of test images right")
    print(f"modes with a sample: {found.modes} of {MODES}; reverse KL {found.reverse_kl:.3f}, floor {found.floor:.3f}")


if __name__ == "__main__":
    main()
