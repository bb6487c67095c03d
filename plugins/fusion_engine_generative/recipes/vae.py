"""A multimodal VAE: one encoder and one decoder a modality, one shared posterior."""

from typing import Annotated

from pydantic import Field

from fusion_engine_generative.recipes.parts import (
    Config,
    Modalities,
    bound,
    declared,
    decoders,
    encoders,
    inference,
)

Positive = Annotated[int, Field(ge=1)]


def vae(
    modalities: Modalities,
    *,
    posterior: str = "mopoe",
    latent: Positive = 32,
    private: dict[str, Positive] | None = None,
    beta: Annotated[float, Field(ge=0)] = 1.0,
    warmup_steps: Annotated[int, Field(ge=0)] = 200,
    epochs: Positive = 50,
    components: Annotated[int, Field(ge=0)] = 32,
    infer: bool = False,
) -> Config:
    """Train reconstruction and KL; afterwards fit a mixture of ``components`` to the latents (0: none).

    Routing: encoders, posteriors and decoders receive reconstruction; encoders and posteriors KL, decoders never. With
    the posterior jmvae, whose experts nothing else teaches, they learn from the joint by ``loss/jmvae_kl``, detached:
    that reaches encoders and experts.

    Args:
        modalities: what there is.
        posterior: the shared one, such as mopoe, poe or mvae.
        latent: its width.
        private: width of a private latent by modality.
        beta: weight of the KL.
        warmup_steps: until beta is reached.
        epochs: of the only stage.
        components: of the mixture fitted to the shared latents.
        infer: fill in what a row lacks under that mixture, too, instead of under N(0, I).
    """
    own, losses = private or {}, bound(posterior, beta, warmup_steps)
    return {
        "modalities": declared(modalities),
        "nodes": {
            **encoders(modalities),
            **inference(modalities, posterior, latent, own, components, infer),
            **decoders(modalities, "post", own),
        },
        "losses": losses,
        "stages": [{"name": "train", "epochs": epochs, "losses": list(losses)}],
    }
