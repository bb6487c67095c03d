"""Kernel inception distance: Bińkowski et al., ICLR 2018, arXiv:1801.01401.

On features of any kind, given as they are. torchmetrics' metric of this name averages over random subsets, drawn from
the global random state; this is the estimate over all samples at once, so it repeats exactly.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fusion_engine.evaluation.samples import Sample, blocks, checked, equal


@dataclass(frozen=True)
class Kernel:
    """A distance and its floor, both at the same number of samples."""

    distance: float
    """real to generated"""
    floor: float
    """real to real: what a perfect generator would score; it scatters around 0 and may be negative"""


def _sum(x: Sample, y: Sample) -> Float[Tensor, ""]:
    """Sum k(x_i, y_j) over all pairs."""
    parts = [(x[rows] @ y.T / x.shape[1] + 1).pow(3).sum() for rows in blocks(len(x))]
    return torch.stack(parts).sum()


def _off_diagonal(x: Sample) -> Float[Tensor, ""]:
    """Average k(x_i, x_j) over i != j."""
    diagonal = (x.square().sum(1) / x.shape[1] + 1).pow(3).sum()
    return (_sum(x, x) - diagonal) / (len(x) * (len(x) - 1))


def kernel_distance(real: Sample, fake: Sample) -> float:
    """Measure the unbiased squared maximum mean discrepancy between features [n d] and [m d], in float64.

        k(x, y) = (x·y / d + 1)³        mean over i≠j of k(x_i, x_j) + mean over i≠j of k(y_i, y_j) − 2 mean k(x_i, y_j)

    Two samples of one distribution score 0 in the mean at any n and m, so that n need not be equal, unlike with the
    Fréchet distance; one pair of samples scatters around 0 and may be negative. It depends on the scale and the origin
    of the features.

    Raises:
        DataError: features do not fit, or hold NaN or Inf.
    """
    real, fake = checked(real, fake)
    return float(_off_diagonal(real) + _off_diagonal(fake) - 2 * _sum(real, fake) / (len(real) * len(fake)))


def kernel_with_floor(real_a: Sample, real_b: Sample, fake: Sample, *, seed: int = 0) -> Kernel:
    """Measure real_a to fake, and real_a to real_b as the floor.

    ``real_a`` and ``real_b`` are two disjoint random halves of real data, or training and test data. All three are cut
    to the smallest one's n, by a seeded draw, so that both distances scatter alike.

    Raises:
        DataError: features do not fit, or hold NaN or Inf.
    """
    real_a, real_b, fake = equal(real_a, real_b, fake, seed=seed)
    return Kernel(kernel_distance(real_a, fake), kernel_distance(real_a, real_b))
