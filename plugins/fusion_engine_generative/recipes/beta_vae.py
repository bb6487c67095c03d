"""A VAE with a strong or a steered KL: Higgins et al., ICLR 2017; Burgess et al., 2018, arXiv:1804.03599."""

from typing import Annotated

from pydantic import Field

from fusion_engine_generative.recipes.parts import Config, Modalities
from fusion_engine_generative.recipes.vae import vae

Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]


def beta_vae(
    modalities: Modalities,
    *,
    beta: Weight = 4.0,
    capacity: Weight | None = None,
    gamma: Weight = 100.0,
    capacity_steps: Annotated[int, Field(ge=0)] = 2000,
    posterior: str = "mopoe",
    latent: Positive = 32,
    private: dict[str, Positive] | None = None,
    warmup_steps: Annotated[int, Field(ge=0)] = 200,
    epochs: Positive = 50,
    components: Annotated[int, Field(ge=0)] = 32,
) -> Config:
    """Train a VAE whose KL weighs ``beta``, or stays near a ``capacity`` that rises over training.

        beta KL        or, with a capacity,        gamma |KL - C|, C from 0 to capacity over capacity_steps

    Routing: as ``vae``: encoders, posteriors and decoders receive reconstruction; encoders and posteriors the KL's
    term, decoders never.

    Args:
        modalities: what there is.
        beta: weight of the KL without a capacity.
        capacity: nats of all latents of a row in the end; without it there is none.
        gamma: weight of the distance to the capacity.
        capacity_steps: until the whole capacity is reached.
        posterior, latent, private, epochs, components: as in ``vae``.
        warmup_steps: until beta is reached; a capacity needs none.
    """
    config = vae(
        modalities,
        posterior=posterior,
        latent=latent,
        private=private,
        beta=beta,
        warmup_steps=warmup_steps,
        epochs=epochs,
        components=components,
    )
    if capacity is not None:
        options = {"gamma": gamma, "capacity": capacity, "capacity_steps": capacity_steps}
        config["losses"]["kl"] = {"use": "loss/capacity_kl", "with": options}
    return config
