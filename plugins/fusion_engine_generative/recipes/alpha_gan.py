"""The alpha-GAN: Rosca et al., 2017, arXiv:1706.04987."""

from typing import Annotated, Any

from pydantic import Field

from fusion_engine_generative.recipes.aae import aae
from fusion_engine_generative.recipes.parts import (
    Config,
    Discriminators,
    Modalities,
    adversarial_training,
    discriminators,
    games,
    penalties,
)

Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]


def alpha_gan(
    modalities: Modalities,
    *,
    posterior: str = "mopoe",
    latent: Positive = 32,
    private: dict[str, Positive] | None = None,
    reconstruction_weight: Weight = 1.0,
    game: str = "relativistic",
    discriminator: Discriminators = "joint",
    fusion: str = "concat",
    width: Positive = 128,
    weight: Weight = 1.0,
    code_weight: Weight = 1.0,
    r1: Weight = 0.05,
    r2: Weight = 0.05,
    epochs: Annotated[list[Positive], Field(min_length=2, max_length=2)] | None = None,
    components: Annotated[int, Field(ge=0)] = 0,
) -> Config:
    """Train an auto-encoder between two discriminators: one of data, one of codes in the place of the KL.

    The data discriminator sees reconstructions and prior samples in equal parts. Reconstruction is the decoders'
    likelihood; the paper's L1 is that of a Laplace. The first stage trains auto-encoder and codes alone, the second
    all.
    Routing: encoders and posteriors receive reconstruction and the codes' game, never the data's; decoders
    reconstruction and the data's game, never the codes'; each discriminator its own term and penalties.

    Args:
        modalities: what there is.
        posterior, latent, private: as in ``aae``.
        reconstruction_weight: the paper's lambda.
        game: both adversarial losses.
        discriminator: of data: one for each modality, a joint one, or both.
        fusion, width: of the joint one; the width is the code discriminator's too.
        weight: of the game on data.
        code_weight: of the game on codes.
        r1, r2: gamma of the penalties of both.
        epochs: of the two stages; default 20, 40.
        components: as in ``aae``.
    """
    own: dict[str, Any] = {"posterior": posterior, "latent": latent, "private": private, "components": components}
    config = aae(modalities, **own, game=game, weight=code_weight, width=width, r1=r1, r2=r2)
    trunks, scores = discriminators(modalities, fusion, discriminator, width)
    played = games(
        scores, game, {"weight": weight, **penalties(game, r1, r2), "fakes": {"reconstruction": 1, "prior": 1}}
    )
    config["losses"]["reconstruction"]["with"] = {"weight": reconstruction_weight}
    alone, together = epochs or [20, 40]
    return {
        **config,
        "nodes": {**config["nodes"], **trunks},
        "losses": {**config["losses"], **played},
        "stages": [
            {"name": "codes", "epochs": alone, "losses": ["reconstruction", "codes"]},
            {"name": "together", "epochs": together, "losses": ["reconstruction", "codes", *played]},
        ],
        "train": adversarial_training(1e-3, 0.5),
    }
