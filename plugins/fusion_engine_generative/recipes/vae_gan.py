"""A multimodal VAE-GAN with a shared latent space, trained in stages."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from fusion_engine import ConfigError
from fusion_engine_generative.recipes.parts import (
    Config,
    Discriminators,
    Modalities,
    adversarial_training,
    augmented,
    discriminators,
    games,
    penalties,
)
from fusion_engine_generative.recipes.vae import vae

Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]


def vae_gan(
    modalities: Modalities,
    *,
    posterior: str = "mopoe",
    latent: Positive = 32,
    private: dict[str, Positive] | None = None,
    beta: Weight = 1.0,
    warmup_steps: Annotated[int, Field(ge=0)] = 200,
    components: Annotated[int, Field(ge=0)] = 32,
    infer: bool = False,
    game: str = "relativistic",
    discriminator: Discriminators = "joint",
    fusion: str = "concat",
    width: Positive = 128,
    weight: Weight = 1.0,
    matching: Weight = 1.0,
    reconstruction: Weight = 1.0,
    relative: bool = False,
    augment: dict[str, Any] | None = None,
    r1: Weight = 0.05,
    r2: Weight = 0.05,
    epochs: Annotated[list[Positive], Field(min_length=3, max_length=3)] | None = None,
) -> Config:
    """Pretrain the VAE, then train decoders against a discriminator with the encoders frozen, then all together.

    Routing (Larsen et al., 2016, arXiv:1512.09300, with the reconstruction kept): encoders receive reconstruction, KL
    and feature matching, never the adversarial term; decoders all but KL; the discriminator its own term and
    penalties, never feature matching. Fakes are reconstructions and prior samples in equal parts.

    Args:
        modalities: what there is.
        posterior, latent, private, beta, warmup_steps, components, infer: as in ``vae``.
        game: the adversarial loss.
        discriminator: one for each modality, a joint one, or both.
        fusion, width: of the joint discriminator.
        weight: of the adversarial term.
        matching: weight of feature matching; 0 leaves it out.
        reconstruction: weight of the likelihood; 0 leaves it to feature matching after the first stage (Larsen et al.).
        relative: measure ``weight`` in the pull of the reconstruction (Esser et al., 2021, eq. 7, arXiv:2012.09841).
        augment: what the discriminator sees its inputs through, as the game takes it; {} is all that there is.
        r1, r2: gamma of the penalties.
        epochs: of the three stages; default 30, 10, 30.
    """
    _check(reconstruction, matching, relative)
    own: dict[str, Any] = {"posterior": posterior, "latent": latent, "private": private, "beta": beta}
    config = vae(modalities, **own, warmup_steps=warmup_steps, components=components, infer=infer)
    nodes, scores = discriminators(modalities, fusion, discriminator, width)
    options = {"weight": weight, **penalties(game, r1, r2), "fakes": {"reconstruction": 1, "prior": 1}}
    played = games(scores, game, options | augmented(augment))
    played = {name: {**loss, "relative_to": "reconstruction"} for name, loss in played.items()} if relative else played
    likelihood = ["reconstruction"] if reconstruction else []
    pixels = {"reconstruction": {"use": "loss/reconstruction", "with": {"weight": reconstruction or 1.0}}}
    trunks = scores if discriminator == "each" else scores[:1]  # a joint trunk holds every modality's
    matched = _matching(trunks, matching) if matching else {}
    inferred = [name for name in config["losses"] if name != "reconstruction"]
    pretrain, alone, together = epochs or [30, 10, 30]
    return {
        **config,
        "nodes": {**config["nodes"], **nodes},
        "losses": {**config["losses"], **pixels, **played, **matched},
        "stages": [
            {"name": "pretrain", "epochs": pretrain, "losses": list(config["losses"])},
            {
                "name": "adversarial",
                "epochs": alone,
                "losses": [*likelihood, *played, *matched],
                "learn": ["disc_*", "score*", "dec_*"],
            },
            {"name": "together", "epochs": together, "losses": [*likelihood, *inferred, *played, *matched]},
        ],
        "train": adversarial_training(1e-3, 0.5),
    }


def _check(reconstruction: float, matching: float, relative: bool) -> None:
    if not (reconstruction or matching):
        raise ConfigError(
            "nothing says that a reconstruction is to look like its original",
            where="recipe 'vae_gan'",
            fix="give 'reconstruction' or 'matching' a weight",
        )
    if relative and not reconstruction:
        raise ConfigError(
            "there is no reconstruction that the game could be weighed by",
            where="recipe 'vae_gan', 'relative'",
            fix="give 'reconstruction' a weight",
        )


def _matching(scores: Sequence[str], weight: float) -> Config:
    """Feature matching in the trunk of each score."""
    return {
        score.replace("score", "matching"): {"use": "loss/feature_matching", "with": {"score": score, "weight": weight}}
        for score in scores
    }
