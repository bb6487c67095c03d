"""BiGAN and ALI: Donahue et al., ICLR 2017, arXiv:1605.09782; Dumoulin et al., ICLR 2017, arXiv:1606.00704."""

from typing import Annotated

from pydantic import Field

from fusion_engine_generative.recipes.parts import (
    Config,
    Modalities,
    adversarial_training,
    declared,
    decoders,
    discriminators,
    encoders,
    games,
    inference,
    penalties,
)

Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]


def bigan(
    modalities: Modalities,
    *,
    posterior: str = "poe",
    latent: Positive = 32,
    private: dict[str, Positive] | None = None,
    game: str = "relativistic",
    fusion: str = "concat",
    width: Positive = 128,
    r1: Weight = 0.05,
    r2: Weight = 0.05,
    epochs: Positive = 100,
    components: Annotated[int, Field(ge=0)] = 0,
) -> Config:
    """Train encoders and decoders until pairs (x, E(x)) and (G(z), z) look alike: a GAN that learns inference.

    One joint discriminator looks at all modalities and all latents of a row. Nothing asks for reconstruction: it
    follows from the match of the pairs.
    Routing: encoders, posteriors and decoders receive the generator's term; ``disc_*`` and ``score`` the
    discriminator's and its penalties; neither receives the other's.

    Args:
        modalities: what there is.
        posterior: the shared one; of a mixture the discriminator sees one component a row.
        latent: its width.
        private: width of a private latent by modality.
        game: the adversarial loss, such as relativistic or non_saturating.
        fusion, width: of the joint discriminator.
        r1, r2: gamma of the penalties.
        epochs: of the only stage.
        components: of a mixture fitted to the shared latents; 0 leaves N(0, I) to draw from.
    """
    own = private or {}
    trunks, scores = discriminators(modalities, fusion, "joint", width, latents=["post", *(f"style_{m}" for m in own)])
    played = games(scores, game, penalties(game, r1, r2))
    return {
        "modalities": declared(modalities),
        "nodes": {
            **encoders(modalities),
            **inference(modalities, posterior, latent, own, components),
            **decoders(modalities, "post", own),
            **trunks,
        },
        "losses": played,
        "stages": [{"name": "adversarial", "epochs": epochs, "losses": list(played)}],
        "train": adversarial_training(4e-4, 0.0),
    }
