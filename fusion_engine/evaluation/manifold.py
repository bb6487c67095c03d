"""Fidelity and diversity by nearest neighbours.

Precision and recall: Kynkäänniemi et al., NeurIPS 2019, arXiv:1904.06991. Density and coverage: Naeem et al.,
ICML 2020, arXiv:2002.09797. B(x) is the ball around x that reaches to its k-th nearest neighbour among its own kind:

    precision = share of fakes in any B(real)         density  = mean over fakes of #{B(real) that hold it} / k
    recall    = share of reals in any B(fake)         coverage = share of B(real) that hold any fake

A perfect generator does not score 1 on all of them. Its precision and recall depend on n and d: at n = 2000 and k = 5
both are .71 for Gaussians in 64 dimensions, .58 in 512. Its density scatters around 1, widely where d is large, and its
coverage is 1 − ∏_{i=1..k} (n − i) / (2n − i), nearly 1 − 2^−k (.969), in any dimension. Judge by coverage, and by the
rest beside the floor.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fusion_engine.evaluation.samples import Sample, blocks, checked, equal


@dataclass(frozen=True)
class Manifold:
    """Precision and density (fidelity), recall and coverage (diversity)."""

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class ManifoldWithFloor:
    """Generated against real, and beside it real against real, at equal n."""

    fake: Manifold
    real: Manifold


def distances(x: Sample, y: Sample) -> Float[Tensor, "_ _"]:
    """Measure Euclidean distances pair by pair; exactly, so that duplicates are 0 apart."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def nearest_distance(x: Sample, others: Sample) -> Float[Tensor, " _"]:
    """Measure each row's distance to the nearest of the others."""
    return torch.cat([distances(x[rows], others).amin(1) for rows in blocks(len(x))])


def radius(x: Sample, k: int) -> Float[Tensor, " _"]:
    """Measure each row's distance to its k-th nearest neighbour in x, itself not counted."""
    return torch.cat([distances(x[rows], x).kthvalue(k + 1, dim=1).values for rows in blocks(len(x))])


def manifold(real: Sample, fake: Sample, *, k: int = 5) -> Manifold:
    """Measure precision, recall, density and coverage of features [n d] and [m d].

    Memory grows with n, not with n·m.

    Raises:
        DataError: features do not fit, hold NaN or Inf, or are k or fewer.
    """
    real, fake = checked(real, fake, at_least=k + 1)
    real_radius, fake_radius = radius(real, k), radius(fake, k)
    held = real.new_zeros(len(fake))
    recalled = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    nearest = torch.full_like(real_radius, torch.inf)
    for rows in blocks(len(fake)):
        apart = distances(fake[rows], real)
        held[rows] = (apart <= real_radius).sum(1).to(held.dtype)
        recalled |= (apart <= fake_radius[rows, None]).any(0)
        nearest = nearest.minimum(apart.amin(0))
    return Manifold(
        precision=float((held > 0).double().mean()),
        recall=float(recalled.double().mean()),
        density=float(held.mean() / k),
        coverage=float((nearest <= real_radius).double().mean()),
    )


def manifold_with_floor(
    real_a: Sample, real_b: Sample, fake: Sample, *, k: int = 5, seed: int = 0
) -> ManifoldWithFloor:
    """Measure fake against real_a, and real_b against real_a as the floor.

    ``real_a`` and ``real_b`` are two disjoint random halves of real data. All three are cut to the smallest one's n, by
    a seeded draw.

    Raises:
        DataError: features do not fit, hold NaN or Inf, or are k or fewer.
    """
    real_a, real_b, fake = equal(real_a, real_b, fake, seed=seed)
    return ManifoldWithFloor(manifold(real_a, fake, k=k), manifold(real_a, real_b, k=k))
