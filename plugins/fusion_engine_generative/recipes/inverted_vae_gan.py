"""A VAE-GAN the other way round: the VAE's encoder generates, and its decoder is part of the discriminator."""

from typing import Annotated, Any

from pydantic import Field

from fusion_engine_generative.recipes.parts import Config, Modalities, adversarial_training, encoders, penalties
from fusion_engine_generative.recipes.vae import vae

Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]


def inverted_vae_gan(
    modalities: Modalities,
    *,
    posterior: str = "poe",
    latent: Positive = 32,
    beta: Weight = 1.0,
    warmup_steps: Annotated[int, Field(ge=0)] = 200,
    components: Annotated[int, Field(ge=0)] = 32,
    game: str = "relativistic",
    fusion: str = "concat",
    width: Positive = 128,
    weight: Weight = 1.0,
    r1: Weight = 0.05,
    r2: Weight = 0.05,
    epochs: Annotated[list[Positive], Field(min_length=2, max_length=2)] | None = None,
) -> Config:
    """Pretrain the VAE, then let a discriminator see codes through the VAE's own decoder.

        D(z) = score(fusion(seen_m(dec_m(z)) for every modality m)),   z from q(z given x) against z from p(z)

    The encoder is the generator (of codes), the decoder a layer of the discriminator, as in an adversarial auto-encoder
    whose judge looks at pictures instead of numbers. Routing: encoders and posterior receive reconstruction, KL and the
    generator's term; decoders reconstruction in the generator's turn and the discriminator's term in its own;
    ``seen_*``, ``seen`` and ``score`` the discriminator's term alone.

    Args:
        modalities: what there is.
        posterior: the shared one.
        latent: its width.
        beta: weight of the KL in both stages; the game asks for the same, that codes be like the prior's draws.
        warmup_steps: until beta is reached.
        components: of a mixture fitted to the latents; 0 for none.
        game: the adversarial loss.
        fusion, width: of what the discriminator sees of several modalities.
        weight: of the game.
        r1, r2: gamma of the penalties, on the gradient to z.
        epochs: of the two stages; default 30, 30.
    """
    alone, together = epochs or [30, 30]
    own: dict[str, Any] = {"posterior": posterior, "latent": latent, "beta": beta}
    config = vae(modalities, **own, warmup_steps=warmup_steps, components=components)
    seen = {
        f"seen_{m}": {**encoder, "in": f"dec_{m}"}
        for m, encoder in zip(modalities, encoders(modalities).values(), strict=True)
    }
    options = {"score": "score", "weight": weight, **penalties(game, r1, r2)}
    return {
        **config,
        "nodes": {
            **config["nodes"],
            **seen,
            "seen": {"use": f"fusion/{fusion}", "in": list(seen), "with": {"width": width}},
            "score": {"use": "head/score", "in": "seen"},
        },
        "losses": {**config["losses"], "codes": {"use": f"loss/{game}", "with": options}},
        "players": {"discriminator": ["dec_*", "seen_*", "seen", "score"]},
        "stages": [
            {"name": "pretrain", "epochs": alone, "losses": list(config["losses"])},
            {"name": "together", "epochs": together, "losses": [*config["losses"], "codes"]},
        ],
        "train": adversarial_training(1e-3, 0.5),
    }
