"""A recurrent GAN of sequences: noise at every step, a bidirectional discriminator, and a test of order.

C-RNN-GAN, Mogren, 2016, arXiv:1611.09904; RCGAN, Esteban et al., 2017, arXiv:1706.02633.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from fusion_engine import ConfigError, nearest
from fusion_engine_generative.recipes.gan import gan
from fusion_engine_generative.recipes.parts import Config, Modalities

Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
UNKNOWN = 64
"""Steps that there is noise for where only data can tell the length."""


def recurrent_gan(
    modalities: Modalities,
    *,
    given: list[str] | None = None,
    sequences: list[str] | None = None,
    latent: Positive = 16,
    noise: Positive = 4,
    every: Positive = 1,
    length: Positive | None = None,
    cell: Literal["gru", "lstm"] = "gru",
    width: Positive = 64,
    game: str = "relativistic",
    fusion: str = "concat",
    r1: Weight = 0.05,
    r2: Weight = 0.05,
    order: Weight = 0.5,
    matching: Weight = 0.0,
    lr: Annotated[float, Field(gt=0)] = 2e-3,
    epochs: Positive = 100,
) -> Config:
    """Train a recurrent generator against a joint discriminator that reads sequences in both directions.

    The generator of each sequence gets a shared latent, the conditions, and ``noise`` fresh numbers at each step: a
    second prior ``noise_<name>`` of width noise * ceil(length / every). Where the length of a sequence is left to be
    learned from data, there is noise for 64 steps, and building for longer ones is refused.

    Routing: decoders and the condition's encoders receive the generator's term, the length's and mean feature
    matching; ``disc_*`` and ``score`` their own term with its penalties, and the order's; neither receives the other's.

    Args:
        modalities: what there is.
        given: modalities that condition each step instead of being generated.
        sequences: those of the generated ones that are sequences; default those whose decoder is one of sequences. The
            others are made by their own decoders from the shared latent.
        latent: width of the shared latent.
        noise: width of each step's own.
        every: how many steps share a draw of it.
        length: of the longest sequence, for those whose modality does not set it.
        cell: gru or lstm, of generator and discriminator.
        width: of their states, and of the joint discriminator.
        game: the adversarial loss.
        fusion: of the joint discriminator, and of several conditions.
        r1, r2: gamma of the penalties.
        order: weight of telling real sequences from shuffled ones; 0 leaves it out.
        matching: weight of the distance between the means of the discriminator's features; 0 leaves it out.
        lr: both learning rates, which fall by cosine.
        epochs: of the only stage.

    Raises:
        ConfigError: a name is no generated modality, or none is left.
    """
    chosen = _sequences(modalities, given or [], sequences)
    options: dict[str, Any] = {"cell": cell, "width": width}
    parts: dict[str, Any] = {m: {**part, "with": dict(part["with"])} for m, part in modalities.items()}
    steps = dict[str, int]()
    for m in chosen:
        if length is not None:
            parts[m]["with"].setdefault("length", length)
        steps[m] = parts[m]["with"].get("length") or UNKNOWN
        own = {**options, "noise": noise, "every": every, "steps": steps[m]}
        parts[m]["encoder"] = {"use": "encoder/sequence.rnn", "with": options}
        parts[m]["decoder"] = {"use": "decoder/sequence.recurrent_generator", "with": own}
    config = gan(parts, given=given, latent=latent, game=game, fusion=fusion, width=width, r1=r1, r2=r2, epochs=epochs)
    nodes, losses = config["nodes"], {**config["losses"], **_further(order, matching)}
    for m in chosen:
        nodes[f"noise_{m}"] = {"use": "prior/normal", "with": {"latent": noise * -(-steps[m] // every)}}
        nodes[f"dec_{m}"]["in"]["z"] = ["noise", f"noise_{m}"]
    stage = {**config["stages"][0], "losses": list(losses)}
    return {**config, "nodes": nodes, "losses": losses, "stages": [stage]}


def _sequences(modalities: Modalities, given: list[str], sequences: list[str] | None) -> list[str]:
    made = [m for m in modalities if m not in given]
    where = "recipe 'recurrent_gan', 'sequences'"
    for name in sequences or []:
        if name not in made:
            raise ConfigError(f"there is no generated modality {name!r}", where=where, fix=nearest(name, made))
    by_decoder = [m for m in made if modalities[m]["decoder"]["use"].startswith("decoder/sequence.")]
    chosen = by_decoder if sequences is None else sequences
    if not chosen:
        raise ConfigError("no sequence is generated", where=where, actual=str(made), fix="use the recipe 'gan'")
    return chosen


def _further(order: float, matching: float) -> Config:
    losses: Config = {"length": {"use": "loss/sequence.length"}}
    if order:
        losses["order"] = {"use": "loss/order", "with": {"score": "score", "weight": order}}
    if matching:
        losses["matching"] = {"use": "loss/mean_feature_matching", "with": {"score": "score", "weight": matching}}
    return losses
