"""How much of the data's variety a generator has: classes, and how soon it repeats itself."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fusion_engine.errors import DataError
from fusion_engine.evaluation.manifold import distances
from fusion_engine.evaluation.samples import Sample, blocks, checked

Labels = Int[Tensor, " _"]


@dataclass(frozen=True)
class Classes:
    """The classes of generated samples."""

    entropy: float
    """in nats; log(number of classes) is the most"""
    hit: int
    """how many classes have at least a third of a fair share"""


@dataclass(frozen=True)
class Duplicates:
    """Near-duplicates among samples; a generator of few distinct samples repeats itself early."""

    batches: float
    """the share of batches with at least one near-duplicate pair"""
    support: float
    """the number of equally likely samples that would give this share: about s²/1.39 at one half, infinite at 0"""


def histogram(labels: Labels, classes: int) -> Float[Tensor, " _"]:
    """Return the share of each class.

    Raises:
        DataError: there are no labels, or one is outside 0..classes-1.
    """
    if len(labels) == 0 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        wanted = f"at least one, each in 0..{classes - 1}"
        raise DataError("labels do not fit", expected=wanted, actual=_summary(labels))
    return torch.bincount(labels.long(), minlength=classes).double() / len(labels)


def _summary(labels: Labels) -> str:
    return f"{len(labels)} in {int(labels.min())}..{int(labels.max())}" if len(labels) else "none"


def class_diversity(labels: Labels, classes: int) -> Classes:
    """Measure −Σ q log q over the shares q of the classes, and count those with q ≥ 1/3 · 1/classes.

    Raises:
        DataError: labels do not fit.
    """
    q = histogram(labels, classes)
    return Classes(float(-torch.xlogy(q, q).sum()), int((q >= 1 / (3 * classes)).sum()))


def reverse_kl(fake: Labels, real: Labels, classes: int) -> float:
    """Measure Σ q log(q / p), q the generated shares of the classes, p the real ones.

    Lost classes cost little, classes that do not exist in the data are infinite. Compare with ``reverse_kl_floor``.

    Raises:
        DataError: labels do not fit.
    """
    return _kl(histogram(fake, classes), histogram(real, classes))


def _kl(q: Float[Tensor, " _"], p: Float[Tensor, " _"]) -> float:
    return float((torch.xlogy(q, q) - torch.xlogy(q, p)).sum())


def reverse_kl_floor(real: Labels, classes: int, n: int, *, draws: int = 20, seed: int = 0) -> float:
    """Measure what a perfect generator's n samples score: the mean over draws from the real shares.

    It is near (classes − 1) / 2n: .050 for 10 000 samples of 1000 equal classes.

    Raises:
        DataError: labels do not fit.
    """
    p = histogram(real, classes)
    generator = torch.Generator(p.device).manual_seed(seed)
    samples = torch.multinomial(p.expand(draws, -1), n, replacement=True, generator=generator)
    return sum(_kl(histogram(row, classes), p) for row in samples) / draws


def near_duplicates(x: Sample, threshold: float) -> Int[Tensor, "_ 2"]:
    """List the pairs of rows i < j at most ``threshold`` apart."""
    (x,) = checked(x)
    found = []
    for rows in blocks(len(x)):
        near = (distances(x[rows], x) <= threshold).nonzero()
        found.append(near + near.new_tensor([rows.start, 0]))
    pairs = torch.cat(found)
    return pairs[pairs[:, 0] < pairs[:, 1]]


def duplicates(x: Sample, *, threshold: float, size: int, batches: int = 200, seed: int = 0) -> Duplicates:
    """Draw batches without replacement and count those that hold a near-duplicate (Arora & Zhang, arXiv:1706.08224).

    With N equally likely samples a batch of s has none with probability exp(−s (s − 1) / 2N). Hold it against the same
    measure, with the same threshold, of real data.

    Args:
        x: features [n d], n well above ``size``, or the batches are much the same.
        threshold: the distance up to which two samples count as the same.
        size: s, samples a batch.
        batches: how many are drawn.
        seed: of the draws.

    Raises:
        DataError: features do not fit, or there are fewer than ``size``.
    """
    if not 2 <= size <= len(x):
        raise DataError("a batch does not fit", expected=f"a size of 2 to {len(x)}", actual=str(size))
    i, j = near_duplicates(x, threshold).cpu().unbind(1)
    generator = torch.Generator().manual_seed(seed)
    hits = 0
    for _ in range(batches):
        drawn = torch.zeros(len(x), dtype=torch.bool)
        drawn[torch.randperm(len(x), generator=generator)[:size]] = True
        hits += bool((drawn[i] & drawn[j]).any())
    return Duplicates(hits / batches, _support(hits / batches, size))


def _support(share: float, size: int) -> float:
    if share in (0, 1):
        return math.inf if share == 0 else 0.0
    return size * (size - 1) / (-2 * math.log1p(-share))
