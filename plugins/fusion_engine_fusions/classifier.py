"""A classifier on fused modalities. No torch: a recipe returns a config."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from fusion_engine import ConfigError, nearest

Positive = Annotated[int, Field(ge=1)]


def classifier(
    modalities: Mapping[str, Mapping[str, Any]],
    *,
    target: str = "label",
    fusion: str = "concat",
    width: Positive = 128,
    epochs: Positive = 60,
    lr: Annotated[float, Field(gt=0)] = 1e-3,
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1,
) -> dict[str, Any]:
    """Encode, fuse, classify; rows without the label teach nothing, rows that lack an input still do.

    Routing: encoders, fusion and head receive cross entropy.

    Args:
        modalities: the inputs, and the label.
        target: which one is the label.
        fusion: its name, such as concat or self_attention.
        width: of the fused features.
        epochs: of the only stage.
        lr: learning rate, falling by cosine.
        smoothing: of the labels.
    """
    if target not in modalities:
        raise ConfigError(
            f"there is no modality {target!r}", where="recipe 'classifier', 'target'", fix=nearest(target, modalities)
        )
    inputs = {m: part for m, part in modalities.items() if m != target}
    encoders = {f"enc_{m}": {**part["encoder"], "in": m} for m, part in inputs.items()}
    return {
        "modalities": {m: {"use": part["use"], "with": dict(part["with"])} for m, part in modalities.items()},
        "nodes": {
            **encoders,
            "fused": {"use": f"fusion/{fusion}", "in": list(encoders), "with": {"width": width}},
            "classify": {"use": "head/classification", "in": "fused", "out": target},
        },
        "losses": {
            "cross_entropy": {"use": "loss/cross_entropy", "with": {"head": "classify", "smoothing": smoothing}}
        },
        "stages": [{"name": "train", "epochs": epochs, "losses": ["cross_entropy"]}],
        "train": {
            "batch_size": 64,
            "optimizer": {"generator": {"lr": lr, "weight_decay": 0.1}},
            "schedule": "cosine",
            "ema_half_life": 5000,
        },
    }
