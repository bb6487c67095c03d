"""Pieces of configs that the recipes share."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

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
    modalities: Modalities, posterior: str, latent: int, private: Mapping[str, int], components: int
) -> Config:
    """A shared posterior, private ones, and a prior fitted to the latents of all of them."""
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
            "with": {"latent": latent, "components": components},
        }
    return nodes


def decoders(
    modalities: Modalities, source: str, private: Iterable[str] = (), conditions: Mapping[str, str] | None = None
) -> Config:
    """One decoder a modality, from ``source`` and its private latent."""
    nodes: Config = {}
    for m, part in modalities.items():
        latents = [source, f"style_{m}"] if m in private else [source]
        nodes[f"dec_{m}"] = {**part["decoder"], "in": {"z": latents, **(conditions or {})}, "out": m}
    return nodes


def discriminators(modalities: Modalities, fusion: str, which: Discriminators, width: int) -> tuple[Config, list[str]]:
    """Trunks, a fusion of them and score heads; the names of the heads come second."""
    nodes, scores = encoders(modalities, "disc"), []
    if which in ("joint", "both"):
        nodes["disc_all"] = {
            "use": f"fusion/{fusion}",
            "in": list(encoders(modalities, "disc")),
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
