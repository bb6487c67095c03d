"""Sequences with their steps in another order: what a discriminator that minds order must tell from real ones."""

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from fusion_engine.noise import Noise
from fusion_engine.values import Signal


def shuffled_steps(signal: Signal, noise: Noise, length: int) -> Signal:
    """Put the valid steps of each row [b n c] in a random order of the row's own; padding stays where it is.

        data'[i, slot_j] = data[i, slot_pi(j)]        slot_1 .. slot_k the valid steps of row i, pi uniform over k!

    Mask and positions (time stamps) stay: the steps change places, not the places. A row's order does not depend on
    its batch-mates, nor on how far the batch is padded.

    Args:
        signal: n steps a row; without a mask all of them are valid.
        noise: keys the orders.
        length: the longest sequence that there can be, at least n.
    """
    index = _orders(signal, noise, length)
    shape = [*index.shape, *[1] * (signal.data.ndim - 2)]
    return replace(signal, data=signal.data.gather(1, index.reshape(shape).expand_as(signal.data)))


def _orders(signal: Signal, noise: Noise, length: int) -> Int[Tensor, "b n"]:
    """For each step the one that takes its place."""
    b, n = signal.data.shape[:2]
    device = signal.data.device
    padded = torch.zeros(b, n, dtype=torch.bool, device=device) if signal.mask is None else ~signal.mask
    luck = noise.uniform(length)[:, :n].to(device).masked_fill(padded, 2.0)  # padding comes last, in its own order
    source, target = (torch.argsort(x, dim=1, stable=True) for x in (luck, padded.int()))
    return torch.empty_like(source).scatter(1, target, source)
