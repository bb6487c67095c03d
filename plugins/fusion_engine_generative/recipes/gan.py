"""A multimodal GAN: noise, and any given modalities, to all others; a discriminator for one, for all, or both."""

from typing import Annotated, Any

from pydantic import Field

from fusion_engine import ConfigError, nearest
from fusion_engine_generative.recipes.parts import (
    Config,
    Discriminators,
    Modalities,
    declared,
    decoders,
    discriminators,
    encoders,
    games,
)

Positive = Annotated[int, Field(ge=1)]


def gan(
    modalities: Modalities,
    *,
    given: list[str] | None = None,
    latent: Positive = 32,
    game: str = "relativistic",
    discriminator: Discriminators = "joint",
    fusion: str = "concat",
    width: Positive = 128,
    r1: Annotated[float, Field(ge=0)] = 0.05,
    r2: Annotated[float, Field(ge=0)] = 0.05,
    epochs: Positive = 100,
) -> Config:
    """Train generator and discriminator against each other.

    Routing: decoders and the condition's encoders receive the generator's term, ``disc_*`` and ``score*`` the
    discriminator's and its penalties; neither receives the other's.

    Args:
        modalities: what there is.
        given: modalities that condition the generator instead of being generated.
        latent: width of the noise.
        game: the adversarial loss, such as relativistic or non_saturating.
        discriminator: one for each modality, a joint one, or both.
        fusion: of the joint discriminator, and of several conditions.
        width: of that fusion.
        r1, r2: gamma of the penalties.
        epochs: of the only stage.
    """
    conditions = list(given or [])
    for name in conditions:
        if name not in modalities:
            raise ConfigError(
                f"there is no modality {name!r}", where="recipe 'gan', 'given'", fix=nearest(name, modalities)
            )
    made = {m: part for m, part in modalities.items() if m not in conditions}
    if not made:
        raise ConfigError(
            "every modality is given, so there is nothing to generate",
            where="recipe 'gan', 'given'",
            actual=str(conditions),
            fix="leave one out",
        )
    nodes, wires = _conditions({m: modalities[m] for m in conditions}, fusion, width)
    trunks, scores = discriminators(
        modalities, fusion, "joint" if conditions and discriminator == "each" else discriminator, width
    )
    return {
        "modalities": declared(modalities),
        "nodes": {
            **nodes,
            "noise": {"use": "prior/normal", "with": {"latent": latent}},
            **decoders(made, "noise", conditions=wires),
            **trunks,
        },
        "losses": games(scores, game, {"r1": r1, "r2": r2}),
        "stages": [{"name": "adversarial", "epochs": epochs, "losses": list(games(scores, game, {}))}],
        "train": {
            "optimizer": {
                "generator": {"lr": 4e-4, "betas": [0.0, 0.99]},
                "discriminator": {"lr": 4e-4, "betas": [0.0, 0.99]},
            },
            "schedule": "cosine",
            "ema_half_life": 2000,
        },
    }


def _conditions(given: Modalities, fusion: str, width: int) -> tuple[Config, dict[str, str]]:
    if not given:
        return {}, {}
    nodes: dict[str, Any] = encoders(given, "given")
    nodes["given"] = {"use": f"fusion/{fusion}", "in": list(nodes), "with": {"width": width}}
    return nodes, {"given": "given"}
