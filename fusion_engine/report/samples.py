"""Samples to and from files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fusion_engine.components import CategoryModality, Modality
from fusion_engine.errors import DataError
from fusion_engine.model import FusionModel
from fusion_engine.values import Signal


def write_signals(model: FusionModel, signals: Mapping[str, Signal], folder: Path) -> list[Path]:
    """Render every row into files such as image_003.png; a raw sample that is an array goes beside its picture."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, signal in signals.items():
        raws = model.modalities[name].restore(signal)
        for i, (media, raw) in enumerate(zip(model.modalities[name].render(signal), raws, strict=True)):
            path = folder / f"{name}_{i:03d}"
            written.append(media.save(path))
            if isinstance(raw, np.ndarray):
                np.save(path.with_suffix(".npy"), raw, allow_pickle=False)
                written.append(path.with_suffix(".npy"))
    return written


def read_sample(text: str, modality: Modality) -> Any:
    """Read a raw sample: a class by its name, an array from .npy or .csv, another file by its path, else the text.

    Raises:
        DataError: the file cannot be read.
    """
    classes = modality.classes if isinstance(modality, CategoryModality) else ()
    if text in map(str, classes):
        return next(c for c in classes if str(c) == text)
    path = Path(text)
    if not path.is_file():
        if path.suffix in (".npy", ".csv", ".png", ".jpg", ".wav"):
            raise DataError(f"there is no file {text!r}", fix="check the path")
        return text
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix == ".csv":
            return np.loadtxt(path, delimiter=",", ndmin=2)
    except ValueError as error:
        raise DataError(f"{text} cannot be read", actual=str(error)) from error
    return path
