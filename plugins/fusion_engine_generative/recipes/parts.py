"""Pieces of configs that the recipes share."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from fusion_engine import ConfigError

Modalities = Mapping[str, Mapping[str, Any]]
"""By name: ``use``, ``with``, ``encoder`` and ``decoder``, the last two mappings with ``use`` and perhaps ``with``."""
Config = dict[str, Any]
Discriminators = Literal["each", "joint", "both"]


def declared(modalities: Modalities) -> Config:
    """The ``modalities`` section."""
    return {name: {"use": part["use"], "with": dict(part["with"])} for name, part in modalities.items()}


def encoders(modalities: Modalities, prefix: str = "enc") -> Config:
    """One encoder a modality."""
    return {f"{prefix}_{m}": {**part["encoder"], "in": m} for m, part in modalities.items()}


def inference(
    modalities: Modalities,
    posterior: str,
    latent: int,
    private: Mapping[str, int],
    components: int,
    infer: bool = False,
) -> Config:
    """A shared posterior, private ones, and a mixture fitted to the shared latents, under which ``infer`` infers.

    Raises:
        ConfigError: there is to be none, and yet it is to infer.
    """
    if infer and not components:
        raise ConfigError(
            "there is no mixture to infer under",
            where="'infer'",
            fix="give 'components', how many the mixture has, or leave 'infer' out",
        )
    nodes: Config = {
        "post": {"use": f"posterior/{posterior}", "in": [f"enc_{m}" for m in modalities], "with": {"latent": latent}}
    }
    for modality, width in private.items():
        nodes[f"style_{modality}"] = {"use": "posterior/gaussian", "in": f"enc_{modality}", "with": {"latent": width}}
    if components:
        # Draws of the private latents are independent of the shared one in training, and so they are in generation.
        nodes["mixture"] = {
            "use": "prior/mixture",
            "of": ["post"],
            "with": {"latent": latent, "components": components, **({"infer": True} if infer else {})},
        }
    return nodes


def bound(posterior: str, beta: float, warmup_steps: int) -> Config:
    """Reconstruction and KL, and what teaches the experts of a posterior that trains none of its own."""
    losses: Config = {
        "reconstruction": {"use": "loss/reconstruction"},
        "kl": {"use": "loss/kl", "with": {"beta": beta, "warmup_steps": warmup_steps}},
    }
    if posterior.rpartition(".")[2] == "jmvae":
        losses["experts"] = {"use": "loss/jmvae_kl", "with": {"alpha": 10.0, "detach": True}}
    return losses


def decoders(
    modalities: Modalities, source: str, private: Iterable[str] = (), conditions: Mapping[str, str] | None = None
) -> Config:
    """One decoder a modality, from ``source`` and its private latent."""
    nodes: Config = {}
    for m, part in modalities.items():
        latents = [source, f"style_{m}"] if m in private else [source]
        nodes[f"dec_{m}"] = {**part["decoder"], "in": {"z": latents, **(conditions or {})}, "out": m}
    return nodes


def discriminators(
    modalities: Modalities, fusion: str, which: Discriminators, width: int, latents: Sequence[str] = ()
) -> tuple[Config, list[str]]:
    """Trunks, a fusion of them (and of latents) and score heads; the names of the heads come second."""
    nodes, scores = encoders(modalities, "disc"), []
    if which in ("joint", "both"):
        nodes["disc_all"] = {
            "use": f"fusion/{fusion}",
            "in": [*encoders(modalities, "disc"), *latents],
            "with": {"width": width},
        }
        nodes["score"] = {"use": "head/score", "in": "disc_all"}
        scores.append("score")
    if which in ("each", "both"):
        for m in modalities:
            nodes[f"score_{m}"] = {"use": "head/score", "in": f"disc_{m}"}
            scores.append(f"score_{m}")
    return nodes, scores


def games(scores: Iterable[str], game: str, options: Mapping[str, Any]) -> Config:
    """One adversarial loss a score, named after it: ``adversarial``, ``adversarial_image`` ..."""
    return {
        score.replace("score", "adversarial"): {"use": f"loss/{game}", "with": {"score": score, **options}}
        for score in scores
    }


def penalties(game: str, r1: float, r2: float) -> Config:
    """The keys of a game's penalties; the Wasserstein game's own keeps its default."""
    return {} if game.rpartition(".")[2] == "wasserstein" else {"r1": r1, "r2": r2}


def augmented(augment: Mapping[str, Any] | None) -> Config:
    """The key of a game's augmentation, where there is one."""
    return {} if augment is None else {"augment": dict(augment)}


def code_discriminator(latents: Sequence[str], width: int) -> tuple[Config, str]:
    """A discriminator of all latents of a row; its head's name comes second."""
    return {
        "code_disc": {"use": "fusion/concat", "in": list(latents), "with": {"width": width}},
        "code_score": {"use": "head/score", "in": "code_disc"},
    }, "code_score"


def adversarial_training(lr: float, momentum: float) -> Config:
    """A ``train`` section for two players; ``lr`` and ``momentum`` (beta 1) are the generator's."""
    return {
        "optimizer": {
            "generator": {"lr": lr, "betas": [momentum, 0.99]},
            "discriminator": {"lr": 4e-4, "betas": [0.0, 0.99]},
        },
        "schedule": "cosine",
        "ema_half_life": 2000,
    }


PREDICTS = {
    "category": ("classification", "cross_entropy"),
    "tags": ("multi_label", "binary_cross_entropy"),
    "number": ("regression", "squared_error"),
}
"""Head and loss by the modality that is predicted, without its plugin's name."""


def prediction(
    target: str, part: Mapping[str, Any], source: str, head: str | None, loss: str | None, weight: float
) -> tuple[Config, Config]:
    """A head named ``predict`` on features, and its loss; by default those that fit the target.

    Raises:
        ConfigError: nothing is known to fit it, and none is given.
    """
    fits = PREDICTS.get(part["use"].rpartition("/")[2].rpartition(".")[2])
    if fits is None and (head is None or loss is None):
        raise ConfigError(
            f"no head is known to predict {target!r}",
            where="'target'",
            expected="one of: " + ", ".join(f"modality/{name}" for name in PREDICTS),
            actual=part["use"],
            fix="give 'head' and 'loss'",
        )
    usual = fits or ("", "")
    node = {"use": f"head/{head or usual[0]}", "in": source, "out": target}
    return node, {"use": f"loss/{loss or usual[1]}", "with": {"head": "predict", "weight": weight}}
