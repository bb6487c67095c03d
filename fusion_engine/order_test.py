"""The order test: does a discriminator tell sequences from the same ones with their steps shuffled?"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fusion_engine.components import SequenceModality
from fusion_engine.errors import ConfigError, DataError, nearest
from fusion_engine.model import FusionModel
from fusion_engine.run import Run
from fusion_engine.shuffling import shuffled_steps

Scores = Float[Tensor, " n"]


@dataclass(frozen=True)
class OrderTest:
    """How well a score tells real sequences from shuffled ones.

    ``auroc`` is .5 for a discriminator that is blind to order and 1 for one that is never wrong. Were it blind,
    ``auroc`` would lie between ``low`` and ``high`` in ``level`` of all cases.
    """

    auroc: float
    low: float
    high: float
    n: int

    @property
    def minds_order(self) -> bool:
        """Whether chance explains it badly."""
        return self.auroc > self.high


def order_test(
    model: FusionModel,
    rows: Any,
    modality: str,
    score: str = "score",
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> OrderTest:
    """Score rows as they are and with the steps of one sequence shuffled; compare by the area under the ROC curve.

    Rows that lack the modality are left out; the others keep whatever else they have.

    Args:
        model: one with a discriminator.
        rows: a table, such as a test split.
        modality: the sequence to shuffle.
        score: the discriminator's head.
        draws: of the interval.
        level: of the interval.
        seed: of the orders and of the interval.

    Raises:
        ConfigError: there is no such score or sequence, or the score does not look at it.
        DataError: fewer than two rows have the modality.
    """
    sequence = _checked(model, modality, score)
    pairs = [_scores(run, sequence, modality, score) for run in model.runs(rows, seed=seed)]
    real, shuffled = (torch.cat(found) for found in zip(*pairs, strict=True))
    return compare_orders(real, shuffled, draws=draws, level=level, seed=seed)


def _checked(model: FusionModel, modality: str, score: str) -> SequenceModality:
    wiring, where = model.graph.wiring, "order test"
    if score not in wiring.scores:
        fix = nearest(score, wiring.scores) if wiring.scores else "the order test is of models with a discriminator"
        raise ConfigError(f"the model has no score {score!r}", where=where, fix=fix)
    if modality not in wiring.ancestors(score):
        seen = [m for m in wiring.modalities if m in wiring.ancestors(score)]
        raise ConfigError(f"{score!r} does not look at {modality!r}", where=where, expected=", ".join(seen))
    found = model.modalities[modality]
    if not isinstance(found, SequenceModality):
        raise ConfigError(f"{modality!r} has no order of time", where=where, expected="a sequence")
    return found


def _scores(run: Run, sequence: SequenceModality, modality: str, score: str) -> tuple[Scores, Scores]:
    there = run.present(modality)
    moved = shuffled_steps(run.signal(modality), run.noise("order", modality), sequence.length)
    view = run.replay({modality: moved}, label=("order",))
    return tuple(x.score(score)[there].double().cpu() for x in (run, view))  # type: ignore[return-value]


def compare_orders(
    real: Float[Tensor, " _"], shuffled: Float[Tensor, " _"], *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> OrderTest:
    """Compare the scores of n sequences with those of the same n, shuffled.

        auroc = (#{(i, j): real_i > shuffled_j} + #{ties} / 2) / n^2

    The interval is that of a permutation test: under the null hypothesis the two scores of a sequence may be exchanged.

    Raises:
        DataError: they are fewer than two, differ in number, or hold NaN.
    """
    if len(real) != len(shuffled) or len(real) < 2:
        raise DataError(
            "the order test is of pairs",
            expected="at least 2, in equal numbers",
            actual=f"{len(real)}, {len(shuffled)}",
        )
    if bool(torch.cat([real, shuffled]).isnan().any()):
        raise DataError("a score is NaN", fix="look at the discriminator's weights")
    pairs = torch.stack([real, shuffled])
    ranks = _ranks(pairs.flatten()).reshape(2, -1)
    swaps = torch.rand(draws, len(real), generator=torch.Generator().manual_seed(seed)) < 0.5
    null = _areas(torch.where(swaps, ranks[1], ranks[0]))
    low, high = null.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=null.dtype)).tolist()
    return OrderTest(float(_areas(ranks[:1])[0]), low, high, len(real))


def _ranks(x: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Ranks from 1; ties share the mean of theirs."""
    ordered = x.sort().values
    below, up_to = (torch.searchsorted(ordered, x.contiguous(), right=right) for right in (False, True))
    return (below + up_to + 1).double() / 2


def _areas(ranks: Float[Tensor, "k n"]) -> Float[Tensor, " k"]:
    """The area under the ROC curve from the ranks of n real scores among 2 n (Mann and Whitney, 1947)."""
    n = ranks.shape[1]
    return (ranks.sum(1) - n * (n + 1) / 2) / n**2
