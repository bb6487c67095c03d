"""What every measure asks of its samples: feature vectors, finite, of one width, in equal numbers where it matters."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from fusion_engine.errors import DataError

Sample = Float[Tensor, "_ _"]
"""Feature vectors [n d]; different samples may differ in n."""
ROWS = 512
"""How many rows of a distance matrix are held at once."""


def blocks(n: int) -> Iterator[slice]:
    """Cut n rows into blocks of at most ROWS."""
    return (slice(i, i + ROWS) for i in range(0, n, ROWS))


def checked(*samples: Tensor, at_least: int = 2) -> tuple[Tensor, ...]:
    """Return samples [n d] as float64, detached.

    Raises:
        DataError: a sample is no matrix, holds NaN or Inf or too few rows, or widths differ.
    """
    width = samples[0].shape[-1]
    for x in samples:
        if x.ndim != 2 or x.shape[1] != width or len(x) < at_least:
            raise DataError(
                "samples to compare do not fit",
                expected=f"[n {width}] with n of at least {at_least}",
                actual=str(list(x.shape)),
            )
        if not bool(torch.isfinite(x).all()):
            raise DataError("samples to compare hold NaN or Inf", fix="look at the model or encoder that made them")
    return tuple(x.detach().double() for x in samples)


def equal(*samples: Tensor, seed: int) -> tuple[Tensor, ...]:
    """Draw as many rows of each sample as the smallest has, without replacement."""
    n = min(map(len, samples))
    generator = torch.Generator().manual_seed(seed)
    return tuple(x[torch.randperm(len(x), generator=generator)[:n].to(x.device)] for x in samples)
