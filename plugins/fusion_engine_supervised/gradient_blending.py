"""Gradient blending, offline: Wang, Tran, Feiszli, "What makes training multi-modal classification networks hard?",

CVPR 2020, arXiv:1905.12681. Heads that overfit fast and generalise little are weighed down.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch

from fusion_engine import Engine, FusionError, FusionModel, Loss, RunConfig, nearest, read_config

Losses = Mapping[str, tuple[float, float]]
"""By name of a head's loss: its value before and after training."""
LEAST = 1e-3
"""Overfitting counts as at least so much, in units of the loss: less is not told from none, and divides."""


def gradient_blending_weights(train: Losses, validation: Losses, *, least: float = LEAST) -> dict[str, float]:
    """Weigh each head by what it gains on validation data over the square of what it overfits.

        w_k = 1/Z dG_k / dO_k^2,  dG = V_before - V_after,  dO = (V_after - T_after) - (V_before - T_before)

    V and T are the losses on validation and training data; Z makes the weights sum to one. They minimise the square of
    the overfitting-to-generalisation ratio, sum_k w_k^2 dO_k^2 / (sum_k w_k dG_k)^2, where the overfitting of one head
    tells nothing about another's (the paper's proposition 1). A head that gains nothing has weight 0.

    Args:
        train: of each head, the training loss before and after.
        validation: the same on validation data.
        least: |dO| counts as at least this much.

    Raises:
        FusionError: the names differ, a loss is not finite, or no head gains anything.
    """
    _check(train, validation)
    ratios = {}
    for name, (t_before, t_after) in train.items():
        v_before, v_after = validation[name]
        gain, overfit = v_before - v_after, (v_after - t_after) - (v_before - t_before)
        ratios[name] = max(gain, 0.0) / max(abs(overfit), least) ** 2
    total = sum(ratios.values())
    if not total:
        raise FusionError(
            "no head lowers its validation loss, so there is nothing to weigh by",
            actual=", ".join(f"{n}: {v[0]:.4g} to {v[1]:.4g}" for n, v in validation.items()),
            fix="train for fewer epochs, or more slowly",
        )
    return {name: ratio / total for name, ratio in ratios.items()}


def _check(train: Losses, validation: Losses) -> None:
    if not train or set(train) != set(validation):
        raise FusionError(
            "training and validation losses are of different heads",
            expected=", ".join(train) or "at least one",
            actual=", ".join(validation),
        )
    wrong = [n for n in train if not all(map(math.isfinite, (*train[n], *validation[n])))]
    if wrong:
        raise FusionError(f"losses are not finite: {', '.join(wrong)}", fix="lower the learning rate")


def offline_gradient_blending(
    engine: Engine,
    config: RunConfig | Mapping[str, Any],
    train: Any,
    validation: Any,
    *,
    epochs: int,
    losses: Sequence[str] = (),
    least: float = LEAST,
) -> dict[str, float]:
    """Train each head alone from scratch, measure it before and after, and return the weight of each loss.

    Each model minimises one loss of the config: an auxiliary head's trains that head and its encoder, the fused one's
    everything but the auxiliary heads. Train with the weights by ``weighted(config, weights)``.

    Args:
        engine: builds the models.
        config: such as ``engine.recipe_config("auxiliary", ...)``; its stages do not matter.
        train: a table of training rows.
        validation: a table of other rows.
        epochs: of each training.
        losses: whose weights are wanted, by default all of the config.
        least: see ``gradient_blending_weights``.

    Raises:
        FusionError: a name is no loss of the config, or no head learns what generalises.
    """
    read = read_config(config)
    for name in losses:
        if name not in read.losses:
            raise FusionError(f"the config has no loss {name!r}", fix=nearest(name, read.losses))
    before_after: dict[str, dict[str, tuple[float, float]]] = {"train": {}, "validation": {}}
    for name in losses or read.losses:
        model = engine.build({**read.plain(), "stages": [{"name": "alone", "epochs": epochs, "losses": [name]}]})
        model.prepare(train)
        before = [mean_loss(model, name, rows) for rows in (train, validation)]
        model.fit(train)
        after = [mean_loss(model, name, rows) for rows in (train, validation)]
        for split, *pair in zip(before_after, before, after, strict=True):
            before_after[split][name] = (pair[0], pair[1])
    return gradient_blending_weights(before_after["train"], before_after["validation"], least=least)


@torch.no_grad()
def mean_loss(model: FusionModel, name: str, rows: Any) -> float:
    """Average a loss over the rows that count for it, without its weight.

    Raises:
        FusionError: no row counts.
    """
    loss = cast(Loss, model.graph.loss(name))
    terms = [loss(run, player) for run in model.runs(rows) for player in sorted(loss.players)]
    count = sum(int(term.count) for term in terms)
    if not count:
        raise FusionError(f"no row counts for the loss {name!r}", fix="give rows that have the target and an input")
    return sum(float(term.sum) for term in terms) / count


def weighted(config: RunConfig | Mapping[str, Any], weights: Mapping[str, float]) -> dict[str, Any]:
    """Return a config with the weights of some of its losses set: ``losses.<name>.with.weight``.

    Raises:
        FusionError: a name is no loss of the config.
    """
    plain = read_config(config).plain()
    for name, weight in weights.items():
        if name not in plain["losses"]:
            raise FusionError(f"the config has no loss {name!r}", fix=nearest(name, plain["losses"]))
        plain["losses"][name].setdefault("with", {})["weight"] = weight
    return plain
