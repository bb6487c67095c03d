"""An adversarial auto-encoder: Makhzani et al., 2016, arXiv:1511.05644."""

from typing import Annotated

from pydantic import Field

from fusion_engine_generative.recipes.parts import (
    Config,
    Modalities,
    adversarial_training,
    code_discriminator,
    declared,
    decoders,
    encoders,
    inference,
    penalties,
)

Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]


def aae(
    modalities: Modalities,
    *,
    posterior: str = "mopoe",
    latent: Positive = 32,
    private: dict[str, Positive] | None = None,
    game: str = "relativistic",
    weight: Weight = 1.0,
    width: Positive = 128,
    r1: Weight = 0.05,
    r2: Weight = 0.05,
    epochs: Positive = 50,
    components: Annotated[int, Field(ge=0)] = 0,
) -> Config:
    """Train reconstruction, and codes that a discriminator cannot tell from draws of the prior.

    The game takes the KL's place. What is inferred is the discriminator's real view, a draw of the prior its generated
    one.
    Routing: encoders and posteriors receive reconstruction and the generator's term of the game; decoders
    reconstruction alone; ``code_disc`` and ``code_score`` the discriminator's term and its penalties.

    Args:
        modalities: what there is.
        posterior: the shared one; of a mixture the discriminator sees one component a row.
        latent: its width.
        private: width of a private latent by modality; the discriminator sees all latents of a row together.
        game: the adversarial loss, such as relativistic or non_saturating.
        weight: of the game; reconstruction weighs 1.
        width: of the code discriminator's hidden layers.
        r1, r2: gamma of the penalties at inferred and drawn codes.
        epochs: of the only stage.
        components: of a mixture fitted to the shared latents; 0 leaves N(0, I) to draw from.
    """
    own = private or {}
    nodes, codes = code_discriminator(["post", *(f"style_{m}" for m in own)], width)
    return {
        "modalities": declared(modalities),
        "nodes": {
            **encoders(modalities),
            **inference(modalities, posterior, latent, own, components),
            **decoders(modalities, "post", own),
            **nodes,
        },
        "losses": {
            "reconstruction": {"use": "loss/reconstruction"},
            "codes": {"use": f"loss/{game}", "with": {"score": codes, "weight": weight, **penalties(game, r1, r2)}},
        },
        "stages": [{"name": "train", "epochs": epochs, "losses": ["reconstruction", "codes"]}],
        "train": adversarial_training(1e-3, 0.5),
    }
