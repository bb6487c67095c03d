"""Does a generator repeat its training data? Nearest neighbours, held against those of unseen real data."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fusion_engine.evaluation.manifold import nearest_distance
from fusion_engine.evaluation.samples import Sample, checked


@dataclass(frozen=True)
class Memorising:
    """How near generated samples come to training samples, compared with test samples.

    Each figure has a value that unseen real data would score; read it from there:

    - ``share``: ``level`` (.05) is right, well above it is copying; far below it is a generator that is nowhere near
      the data, which is no virtue;
    - ``ratio``: 1 is right, below it copying, above it samples off the data;
    - ``copying``: 0 is right with deviation 1; below −3 copying, above 3 samples off the data.

    The three can be right while a few samples are copied: look at the nearest pairs too.
    """

    share: float
    """of generated samples nearer to a training sample than the nearest ``level`` of test samples are"""
    ratio: float
    """median distance of generated samples to the training data / the same of test samples"""
    copying: float
    """C_T, the z-score of the rank test between the two sets of distances"""


def memorising(train: Sample, test: Sample, fake: Sample, *, level: float = 0.05) -> Memorising:
    """Compare distances of generated and of held-out samples to their nearest training sample.

        share = mean over fakes of [d(fake, train) < the level-quantile of d(test, train)]

    Training and test data must come from one distribution: where test data are of other writers or speakers, a
    generator that keeps to the training writers looks as if it copied. Take validation rows then.

    Args:
        train: features [n d] of what the generator learned from.
        test: features [m d] of held-out real data.
        fake: features [k d] of generated samples.
        level: which quantile of test distances counts as suspiciously near.

    Raises:
        DataError: features do not fit, or hold NaN or Inf.
    """
    train, test, fake = checked(train, test, fake)
    held_out, generated = nearest_distance(test, train), nearest_distance(fake, train)
    near = held_out.quantile(level)
    return Memorising(
        share=float((generated < near).double().mean()),
        ratio=_ratio(float(generated.quantile(0.5)), float(held_out.quantile(0.5))),
        copying=copying_score(held_out, generated),
    )


def _ratio(a: float, b: float) -> float:
    if b == 0:
        return 1.0 if a == 0 else math.inf
    return a / b


def copying_score(held_out: Float[Tensor, " m"], generated: Float[Tensor, " k"]) -> float:
    """Rank generated distances against held-out ones: C_T of Meehan et al., AISTATS 2020, arXiv:2004.05675.

        U = #{(i, j): generated_i > held_out_j} + ½ #{ties}      C_T = (U − km/2) / √(km (k + m + 1) / 12)

    This is their test over the whole space, without their cells.
    """
    m, k = len(held_out), len(generated)
    ordered = held_out.sort().values
    below = torch.searchsorted(ordered, generated, right=False)
    up_to = torch.searchsorted(ordered, generated, right=True)
    u = float((below + up_to).double().sum() / 2)
    return (u - k * m / 2) / math.sqrt(k * m * (k + m + 1) / 12)
