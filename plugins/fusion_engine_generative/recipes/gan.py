"""A multimodal GAN: noise, and any given modalities, to all others; a discriminator for one, for all, or both."""

from typing import Annotated, Any

from pydantic import Field

from fusion_engine import ConfigError, nearest
from fusion_engine_generative.recipes.parts import (
    Config,
    Discriminators,
    Modalities,
    augmented,
    declared,
    decoders,
    discriminators,
    encoders,
    games,
    penalties,
)

Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]


def gan(
    modalities: Modalities,
    *,
    given: list[str] | None = None,
    latent: Positive = 32,
    mapping: Annotated[int, Field(ge=0)] = 0,
    game: str = "relativistic",
    discriminator: Discriminators = "joint",
    discriminator_steps: Positive = 1,
    spectral_norm: bool = False,
    fusion: str = "concat",
    width: Positive = 128,
    r1: Weight = 0.3,
    r2: Weight = 0.3,
    augment: dict[str, Any] | None = None,
    lr: Annotated[float, Field(gt=0)] = 1e-3,
    epochs: Positive = 100,
) -> Config:
    """Train generator and discriminator against each other.

    Routing: decoders, the mapping and the condition's encoders receive the generator's term, ``disc_*`` and ``score*``
    the discriminator's and its penalties; neither receives the other's.

    Args:
        modalities: what there is.
        given: modalities that condition the generator instead of being generated, such as a label.
        latent: width of the noise.
        mapping: layers of a network between the noise and the decoders, G1(G2(z)) (Karras et al., 2019,
            arXiv:1812.04948); 0 for none. Several modalities share it.
        game: the adversarial loss: relativistic, minimax, non_saturating, least_squares, hinge, wasserstein.
        discriminator: one for each modality, a joint one, or both.
        discriminator_steps: turns of the discriminator for one of the generator, all on the same batch.
        spectral_norm: divide every weight of the discriminator by its largest singular value (Miyato et al., 2018).
        fusion: of the joint discriminator, and of several conditions.
        width: of that fusion.
        r1, r2: gamma of the penalties; the game wasserstein has one of its own instead.
        augment: what the discriminator sees its inputs through, as the game takes it; {} is all that there is.
        lr: both learning rates, which fall by cosine.
        epochs: of the only stage.
    """
    conditions = list(given or [])
    made = _made(modalities, conditions)
    nodes, wires = _conditions({m: modalities[m] for m in conditions}, fusion, width)
    trunks, scores = discriminators(
        modalities, fusion, "joint" if conditions and discriminator == "each" else discriminator, width
    )
    optimizer = {"lr": lr, "betas": [0.0, 0.99]}
    return {
        "modalities": declared(modalities),
        "nodes": {
            **nodes,
            **_noise(latent, mapping),
            **decoders(made, "mapping" if mapping else "noise", conditions=wires),
            **{name: {**node, "spectral_norm": True} if spectral_norm else node for name, node in trunks.items()},
        },
        "losses": games(scores, game, penalties(game, r1, r2) | augmented(augment)),
        "stages": [{"name": "adversarial", "epochs": epochs, "losses": list(games(scores, game, {}))}],
        "train": {
            "batch_size": 64,
            "optimizer": {"generator": optimizer, "discriminator": {**optimizer}},
            "turns": {"discriminator": discriminator_steps},
            "schedule": "cosine",
            "ema_half_life": 2000,
        },
    }


def _made(modalities: Modalities, conditions: list[str]) -> Modalities:
    """Check the conditions, and return what is left to be generated."""
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
    return made


def _noise(latent: int, mapping: int) -> Config:
    """Noise, and a multilayer perceptron of so many layers behind it."""
    nodes: Config = {"noise": {"use": "prior/normal", "with": {"latent": latent}}}
    if mapping:
        options = {"width": latent, "depth": mapping - 1, "activation": "leaky_relu"}
        nodes["mapping"] = {"use": "fusion/concat", "in": "noise", "with": options}
    return nodes


def _conditions(given: Modalities, fusion: str, width: int) -> tuple[Config, dict[str, str]]:
    if not given:
        return {}, {}
    nodes: dict[str, Any] = encoders(given, "given")
    nodes["given"] = {"use": f"fusion/{fusion}", "in": list(nodes), "with": {"width": width}}
    return nodes, {"given": "given"}
