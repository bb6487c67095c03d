"""An auto-encoder whose encoder judges and whose decoder generates."""

from typing import Annotated, Literal

from pydantic import Field

from fusion_engine_generative.recipes.parts import (
    Config,
    Modalities,
    adversarial_training,
    declared,
    decoders,
    encoders,
    inference,
)

Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]


def ae_gan(
    modalities: Modalities,
    *,
    posterior: str = "poe",
    latent: Positive = 32,
    beta: Weight = 1.0,
    warmup_steps: Annotated[int, Field(ge=0)] = 200,
    game: Literal["relativistic", "non_saturating", "hinge", "least_squares", "minimax"] = "relativistic",
    head_share: Annotated[float, Field(ge=0, le=1)] = 0.5,
    fusion: str = "concat",
    width: Positive = 128,
    weight: Weight = 1.0,
    r1: Weight = 0.05,
    r2: Weight = 0.05,
    epochs: Annotated[list[Positive], Field(min_length=2, max_length=2)] | None = None,
    components: Annotated[int, Field(ge=0)] = 32,
) -> Config:
    """Pretrain the auto-encoder, then let its encoder judge what its decoder makes.

        D(x) = head_share head(trunk(x)) - (1 - head_share) |x - dec(enc(x))|^2

    The trunk is the encoders and a fusion of their features. Routing: encoders receive reconstruction and KL in the
    generator's turn and the discriminator's term in its own, never the generator's; decoders reconstruction and the
    generator's term; the posterior reconstruction and KL; ``trunk`` and ``score`` the discriminator's term.

    Args:
        modalities: what there is.
        posterior: the shared one, such as poe or mopoe.
        latent: its width.
        beta: weight of the KL.
        warmup_steps: until beta is reached.
        game: the form of the game.
        head_share: w, of the head in the score; the rest is the auto-encoder's error.
        fusion, width: of the trunk.
        weight: of the game.
        r1, r2: gamma of the penalties.
        epochs: of the two stages; default 30, 30.
        components: of a mixture fitted to the latents; 0 for none.
    """
    alone, together = epochs or [30, 30]
    own = [f"enc_{m}" for m in modalities]
    options = {"score": "score", "game": game, "head_share": head_share, "weight": weight, "r1": r1, "r2": r2}
    return {
        "modalities": declared(modalities),
        "nodes": {
            **encoders(modalities),
            **inference(modalities, posterior, latent, {}, components),
            **decoders(modalities, "post"),
            "trunk": {"use": f"fusion/{fusion}", "in": own, "with": {"width": width}},
            "score": {"use": "head/score", "in": "trunk"},
        },
        "losses": {
            "reconstruction": {"use": "loss/reconstruction"},
            "kl": {"use": "loss/kl", "with": {"beta": beta, "warmup_steps": warmup_steps}},
            "adversarial": {"use": "loss/autoencoding", "with": options},
        },
        "stages": [
            {"name": "pretrain", "epochs": alone, "losses": ["reconstruction", "kl"]},
            {"name": "together", "epochs": together, "losses": ["reconstruction", "kl", "adversarial"]},
        ],
        "train": adversarial_training(1e-3, 0.5),
    }
