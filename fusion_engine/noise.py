"""Random numbers that depend on what they are for, and on nothing else."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """Random numbers keyed by what they are for: seed, step and node in the key, the row by its place in the batch.

    Ranks, gradient accumulation and resumed runs therefore draw the same numbers as one uninterrupted process.

    Args:
        key: 63 bits that name the draw; derive with ``at``.
        index: [b], each row's place in the step's whole batch.
        total: the size of that whole batch.
    """

    key: int
    index: Int[Tensor, " b"]
    total: int

    @classmethod
    def of(cls, b: int, seed: int = 0) -> "Noise":
        """Noise for b rows that are a whole batch by themselves."""
        return cls(seed, torch.arange(b), b)

    def at(self, *names: object) -> "Noise":
        """Derive independent noise for another purpose."""
        digest = hashlib.blake2b(repr((self.key, *names)).encode(), digest_size=8).digest()
        return replace(self, key=int.from_bytes(digest, "big") >> 1)

    def _draw(
        self, function: Callable[..., Tensor], lead: Sequence[int], shape: Sequence[int], like: Tensor | None
    ) -> Tensor:
        generator = torch.Generator().manual_seed(self.key)
        drawn = function(*lead, self.total, *shape, generator=generator).index_select(len(lead), self.index)
        return drawn if like is None else drawn.to(device=like.device, dtype=like.dtype)

    def normal(self, *shape: int, lead: Sequence[int] = (), like: Tensor | None = None) -> Tensor:
        """Standard normal numbers [*lead b *shape], on the device and of the dtype of ``like``."""
        return self._draw(torch.randn, lead, shape, like)

    def uniform(self, *shape: int, lead: Sequence[int] = (), like: Tensor | None = None) -> Tensor:
        """Uniform numbers in [0, 1): [*lead b *shape]."""
        return self._draw(torch.rand, lead, shape, like)


def thin(present: Bool[Tensor, "b m"], p: float, noise: Noise) -> Bool[Tensor, "b m"]:
    """Hide each present input with probability p, but never all that a row has: the luckiest one stays.

    ModDrop, Neverova et al., 2016, arXiv:1501.00102, section 4.2.
    """
    luck = noise.uniform(present.shape[1]).to(present.device).masked_fill(~present, 2.0)
    return present & ((luck < 1 - p) | (luck == luck.amin(1, keepdim=True)))
