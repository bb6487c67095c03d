"""A multimodal auto-encoder with a deterministic code: Ngiam et al., ICML 2011; Hinton and Salakhutdinov, 2006."""

from typing import Annotated

from pydantic import Field

from fusion_engine import ConfigError, nearest
from fusion_engine_generative.recipes.parts import Config, Modalities, declared, decoders, encoders, prediction

Positive = Annotated[int, Field(ge=1)]


def autoencoder(
    modalities: Modalities,
    *,
    latent: Positive = 32,
    fusion: str = "concat",
    width: Positive = 128,
    target: str | None = None,
    supervised_weight: Annotated[float, Field(ge=0)] = 1.0,
    head: str | None = None,
    loss: str | None = None,
    epochs: Positive = 50,
    lr: Annotated[float, Field(gt=0)] = 1e-3,
) -> Config:
    """Encode, fuse, project to a code, decode everything from it; predict the target from the code where there is one.

    ``model.features(rows, "code")`` returns the codes; translate, reconstruct and impute decode what a row's others
    tell. There is no prior, so that generation has nothing to draw from: use ``aae`` or ``vae``.
    Routing: encoders, fusion and code receive reconstruction and the head's loss; decoders reconstruction; the head
    its own loss.

    Args:
        modalities: the inputs, and the target where there is one.
        latent: width of the code.
        fusion: its name, such as concat or self_attention; what a missing input does is its rule.
        width: of the fused features, of which the code is a linear map.
        target: a modality to predict instead of encoding and decoding it.
        supervised_weight: of its loss.
        head, loss: by name; by default those that fit a category, tags or a number.
        epochs: of the only stage.
        lr: learning rate, falling by cosine.
    """
    if target is not None and target not in modalities:
        raise ConfigError(
            f"there is no modality {target!r}", where="recipe 'autoencoder', 'target'", fix=nearest(target, modalities)
        )
    inputs = {m: part for m, part in modalities.items() if m != target}
    if not inputs:
        raise ConfigError("there is nothing to encode beside the target", where="recipe 'autoencoder', 'target'")
    nodes = encoders(inputs)
    nodes["fused"] = {"use": f"fusion/{fusion}", "in": list(nodes), "with": {"width": width}}
    nodes["code"] = {"use": "fusion/concat", "in": "fused", "with": {"width": latent, "depth": 0}}
    losses: Config = {"reconstruction": {"use": "loss/reconstruction"}}
    if target is not None:
        part = modalities[target]
        nodes["predict"], losses["supervised"] = prediction(target, part, "code", head, loss, supervised_weight)
    return {
        "modalities": declared(modalities),
        "nodes": {**nodes, **decoders(inputs, "code")},
        "losses": losses,
        "stages": [{"name": "train", "epochs": epochs, "losses": list(losses)}],
        "train": {"optimizer": {"generator": {"lr": lr}}, "schedule": "cosine"},
    }
