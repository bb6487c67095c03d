"""Do generated modalities tell the same story? A judge, trained on real data, says what each one shows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fusion_engine.errors import DataError

Labels = Int[Tensor, " _"]


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


def _share(hits: Tensor) -> float:
    if len(hits) == 0:
        raise DataError("there are no rows to take a share of")
    return float(hits.double().mean())


def _same_length(a: Tensor, b: Tensor) -> None:
    if len(a) != len(b):
        raise DataError("labels to compare differ in number", expected=str(len(a)), actual=str(len(b)))


def agreement(pred_a: Labels, pred_b: Labels) -> float:
    """Return the share of rows in which two predictions are equal.

    Raises:
        DataError: they differ in length, or there are none.
    """
    _same_length(pred_a, pred_b)
    return _share(pred_a == pred_b)


def conditional_coherence(judge_logits: Float[Tensor, "_ _"], labels: Labels) -> float:
    """Return the share of generated samples in which the judge sees the label of what they were generated from.

    A judge errs on real data too: its accuracy there is the ceiling.

    Raises:
        DataError: logits and labels differ in length, there are none, or logits are NaN.
    """
    if bool(judge_logits.isnan().any()):
        raise DataError("the judge's logits are NaN", fix="look at the generated samples that it was given")
    return agreement(judge_logits.argmax(-1), labels)


def joint_coherence(predicted: Mapping[str, Labels]) -> float:
    """Return the share of jointly generated rows in which the judges of all modalities see the same label.

    Raises:
        DataError: predictions differ in length, or there are none.
    """
    if not predicted:
        raise DataError("there are no predictions to compare", expected="{modality: labels [n]}")
    first, *others = predicted.values()
    same = torch.ones(len(first), dtype=torch.bool, device=first.device)
    for other in others:
        _same_length(first, other)
        same = same & (first == other)
    return _share(same)


Admitted = Bool[Tensor, "_ _"]
"""[n c]: the labels that each of n samples may stand for; a clear one has one True, an ambiguous phrase several."""


def _alike(sets: Sequence[Tensor]) -> None:
    shapes = {tuple(x.shape) for x in sets}
    if len(shapes) != 1 or not sets[0].numel():
        raise DataError(
            "admitted labels to compare do not fit",
            expected="[n c] alike, n and c of at least 1",
            actual=", ".join(str(list(shape)) for shape in sorted(shapes)) or "nothing",
        )


def agreement_of_sets(*admitted: Admitted) -> float:
    """Return the share of rows in which some label is admitted by every one of the given samples.

        mean over i of [ exists c: for all m, admitted_m[i, c] ]

    With one label each, this is equality. A phrase that names several digits is met by any of them.

    Raises:
        DataError: they differ in shape, or there are none.
    """
    _alike(admitted)
    return _share(torch.stack(admitted).all(0).any(-1))


def chance_of_sets(*admitted: Admitted, draws: int = 20, seed: int = 0) -> float:
    """Return what ``agreement_of_sets`` would be, were rows paired at random: the mean over seeded shuffles.

    Raises:
        DataError: they differ in shape, or there are none.
    """
    _alike(admitted)
    g = torch.Generator().manual_seed(seed)
    first, *others = admitted
    found = [agreement_of_sets(first, *(x[torch.randperm(len(x), generator=g)] for x in others)) for _ in range(draws)]
    return sum(found) / draws


def wilson(share: float, n: int, *, level: float = 0.95) -> Interval:
    """Return Wilson's confidence interval of a share of n independent rows (J. Am. Stat. Assoc. 22, 1927).

        (p + z²/2n ± z √(p (1 − p) / n + z²/4n²)) / (1 + z²/n)

    Raises:
        DataError: n is below 1, or the share outside 0..1.
    """
    if n < 1 or not 0 <= share <= 1:
        raise DataError("not a share", expected="0 to 1, of at least 1 row", actual=f"{share} of {n}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = share + z * z / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return Interval(max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale))
