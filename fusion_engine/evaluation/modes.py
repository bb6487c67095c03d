"""How many modes of a known mixture a generator finds, and how evenly: the measure of toy mixtures.

Rings and grids of Gaussians: Metz et al., "Unrolled GANs", ICLR 2017, arXiv:1611.02163; Srivastava et al., "VEEGAN",
NeurIPS 2017, arXiv:1705.07761; reverse KL: Lin et al., "PacGAN", NeurIPS 2018, arXiv:1712.04086.
"""

from dataclasses import dataclass

import torch

from fusion_engine.errors import DataError
from fusion_engine.evaluation.diversity import reverse_kl, reverse_kl_floor
from fusion_engine.evaluation.manifold import distances
from fusion_engine.evaluation.samples import Sample, blocks, checked

REACH = 3.0
"""Deviations from a centre up to which a sample is a good one of its mode."""


@dataclass(frozen=True)
class Modes:
    """What n samples have of a mixture of c equal, round Gaussians."""

    hit: int
    """modes that have at least a third of a fair share of the samples, n / 3c, within three deviations"""
    touched: int
    """modes that have any sample within three deviations: one lucky sample counts, so read it beside ``hit``"""
    near: float
    """the share of samples within three deviations of a centre"""
    best: float
    """that share for the mixture itself: P(χ²_d ≤ 9), .989 in two dimensions (.997 in one, .971 in three)"""
    reverse_kl: float
    """Σ q log(q / p), q the shares of samples nearest to each centre (near or not), p = 1 / c"""
    floor: float
    """the same of n samples drawn from the mixture, on average"""


def modes(samples: Sample, centres: Sample, deviation: float, *, seed: int = 0) -> Modes:
    """Count the modes that samples hit, and measure how many lie near one and how evenly they are spread.

    Args:
        samples: [n d], in the units of the centres (undo a scaling first).
        centres: [c d], of equally likely Gaussians.
        deviation: of each, the same in all directions.
        seed: of the draws for the floor.

    Raises:
        DataError: samples or centres do not fit, or the deviation is not above 0.
    """
    if not deviation > 0:
        raise DataError("a mixture's deviation is a number above 0", actual=str(deviation))
    samples, centres = checked(samples, centres, at_least=1)
    n, c = len(samples), len(centres)
    nearest = [distances(samples[rows], centres).min(1) for rows in blocks(n)]
    apart, labels = torch.cat([x.values for x in nearest]), torch.cat([x.indices for x in nearest])
    good = apart <= REACH * deviation
    share = torch.bincount(labels[good], minlength=c).double() / n
    every = torch.arange(c, device=labels.device)
    return Modes(
        hit=int((share >= 1 / (3 * c)).sum()),
        touched=int((share > 0).sum()),
        near=float(good.double().mean()),
        best=float(torch.special.gammainc(apart.new_tensor(samples.shape[1] / 2), apart.new_tensor(REACH**2 / 2))),
        reverse_kl=reverse_kl(labels, every, c),
        floor=reverse_kl_floor(every, c, n, seed=seed),
    )
