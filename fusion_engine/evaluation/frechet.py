"""Fréchet distance between Gaussians fitted to features: Heusel et al., NeurIPS 2017, arXiv:1706.08500."""

from dataclasses import dataclass

from torch import Tensor, nn

from fusion_engine.evaluation.samples import Sample, checked, equal


@dataclass(frozen=True)
class Frechet:
    """A distance and its floor, both at the same number of samples."""

    distance: float
    """real to generated"""
    floor: float
    """real to real: what a perfect generator would score"""

    @property
    def excess(self) -> float:
        """What the distance is above its floor; a perfect generator scatters around 0."""
        return self.distance - self.floor


class _AsGiven(nn.Module):
    """Stand in for the metric's feature extractor: features come in as they are.

    The metric registers its extractor as its own submodule, and so would train, save and switch the mode of a network
    given to it. Features are therefore extracted by the caller, and this has neither parameters nor a mode.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Sample, fake: Sample) -> float:
    """Measure ‖μ_r − μ_f‖² + tr(Σ_r + Σ_f − 2 (Σ_r Σ_f)^½) between features [n d] and [m d], in float64.

    It is biased upwards, by about 1/n: two samples of one distribution are a distance apart. Compare only distances
    at equal n, or use ``frechet_with_floor``.

    Raises:
        DataError: features do not fit, or hold NaN or Inf.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # takes seconds to import

    real, fake = checked(real, fake)
    metric = FrechetInceptionDistance(feature=_AsGiven(real.shape[1]), normalize=True).set_dtype(real.dtype)
    metric = metric.to(real.device)
    centre = real.mean(0)  # sums of squares far from the origin would lose digits
    metric.update(real - centre, real=True)
    metric.update(fake - centre, real=False)
    return max(0.0, float(metric.compute()))


def frechet_with_floor(real_a: Sample, real_b: Sample, fake: Sample, *, seed: int = 0) -> Frechet:
    """Measure real_a to fake, and real_a to real_b as the floor.

    ``real_a`` and ``real_b`` are two disjoint random halves of real data, or training and test data. All three are cut
    to the smallest one's n, by a seeded draw, so that the bias of both distances is the same.

    Raises:
        DataError: features do not fit, or hold NaN or Inf.
    """
    real_a, real_b, fake = equal(real_a, real_b, fake, seed=seed)
    return Frechet(frechet_distance(real_a, fake), frechet_distance(real_a, real_b))
