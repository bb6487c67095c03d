"""A prediction from fused modalities with an auxiliary head a modality. No torch: a recipe returns a config.

Deep supervision, Lee et al., AISTATS 2015, arXiv:1409.5185; a head a modality beside the fused one, Wang et al., CVPR
2020, arXiv:1905.12681.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from fusion_engine import ConfigError, nearest

Positive = Annotated[int, Field(ge=1)]
FUSED = "fused"


def auxiliary(
    modalities: Mapping[str, Mapping[str, Any]],
    *,
    target: str = "label",
    fusion: str = "concat",
    width: Positive = 128,
    head: str = "classification",
    loss: str = "cross_entropy",
    weights: dict[str, Annotated[float, Field(ge=0)]] | None = None,
    epochs: Positive = 60,
    lr: Annotated[float, Field(gt=0)] = 1e-3,
) -> dict[str, Any]:
    """Encode, fuse, predict; predict from each modality alone too, and minimise the weighted sum of all losses.

        total = w_fused loss(fused) + sum_m w_m loss(only_m)

    Rows without the target teach nothing; a row that lacks an input leaves that input's own loss out.
    Routing: encoder m and head m receive ``only_m``; all encoders, the fusion and the first head ``fused``.

    Args:
        modalities: the inputs, and the target.
        target: which one is predicted.
        fusion: its name, such as concat or self_attention.
        width: of the fused features.
        head: what predicts the target, such as classification, multi_label, regression or ordinal.
        loss: its loss, such as cross_entropy, binary_cross_entropy, squared_error or ordinal.
        weights: by loss, ``fused`` or ``only_<modality>``; 1 where not named. Gradient blending finds them.
        epochs: of the only stage.
        lr: learning rate, falling by cosine.
    """
    where = "recipe 'auxiliary'"
    if target not in modalities:
        raise ConfigError(
            f"there is no modality {target!r}", where=f"{where}, 'target'", fix=nearest(target, modalities)
        )
    inputs = {m: part for m, part in modalities.items() if m != target}
    encoders = {f"enc_{m}": {**part["encoder"], "in": m} for m, part in inputs.items()}
    heads = {"predict": "fused", **{f"predict_{m}": f"enc_{m}" for m in inputs}}
    losses = {FUSED: "predict", **{f"only_{m}": f"predict_{m}" for m in inputs}}
    for name in weights or {}:
        if name not in losses:
            raise ConfigError(f"there is no loss {name!r}", where=f"{where}, 'weights'", fix=nearest(name, losses))
    return {
        "modalities": {m: {"use": part["use"], "with": dict(part["with"])} for m, part in modalities.items()},
        "nodes": {
            **encoders,
            "fused": {"use": f"fusion/{fusion}", "in": list(encoders), "with": {"width": width}},
            **{name: {"use": f"head/{head}", "in": source, "out": target} for name, source in heads.items()},
        },
        "losses": {
            name: {"use": f"loss/{loss}", "with": {"head": node, "weight": (weights or {}).get(name, 1.0)}}
            for name, node in losses.items()
        },
        "stages": [{"name": "train", "epochs": epochs, "losses": list(losses)}],
        "train": {"batch_size": 64, "optimizer": {"generator": {"lr": lr}}, "schedule": "cosine"},
    }
