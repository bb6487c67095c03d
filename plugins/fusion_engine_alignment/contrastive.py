"""Encoders whose vectors are aligned: after CLIP, Radford et al. 2021, arXiv:2103.00020. A recipe returns a config."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from fusion_engine import ConfigError

Positive = Annotated[int, Field(ge=1)]


def contrastive(
    modalities: Mapping[str, Mapping[str, Any]],
    *,
    loss: str = "clip",
    width: Positive = 64,
    epochs: Positive = 30,
    batch_size: Positive = 256,
    lr: Annotated[float, Field(gt=0)] = 1e-3,
) -> dict[str, Any]:
    """Encode each modality, project it to one width, align all pairs; rows teach the pairs that they have.

    Nodes ``embed_<modality>`` hold the vectors: ``model.features(data, "embed_image")`` returns them, and
    ``fusion_engine_alignment.retrieval.retrieve`` finds the images of texts by them.
    Routing: encoders, projections and the loss's own temperature receive the alignment loss.

    Args:
        modalities: two or more.
        loss: its name, such as clip, siglip or deep_cca (which needs more rows in a batch than twice the width).
        width: of the projections.
        epochs: of the only stage.
        batch_size: every row's negatives are the others of its batch.
        lr: learning rate, falling by cosine.
    """
    if len(modalities) < 2:
        raise ConfigError(
            "one modality has nothing to be aligned with",
            where="recipe 'contrastive'",
            expected="two or more modalities",
            actual=", ".join(modalities),
        )
    encoders = {f"enc_{m}": {**part["encoder"], "in": m} for m, part in modalities.items()}
    projections = {
        f"embed_{m}": {"use": "fusion/projection", "in": f"enc_{m}", "with": {"width": width}} for m in modalities
    }
    return {
        "modalities": {m: {"use": part["use"], "with": dict(part["with"])} for m, part in modalities.items()},
        "nodes": {**encoders, **projections},
        "losses": {"align": {"use": f"loss/{loss}", "with": {"nodes": list(projections)}}},
        "stages": [{"name": "train", "epochs": epochs, "losses": ["align"]}],
        "train": {"batch_size": batch_size, "optimizer": {"generator": {"lr": lr}}, "schedule": "cosine"},
    }
