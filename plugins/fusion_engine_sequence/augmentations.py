"""What a discriminator may see sequences through: gains, dropped spans, and turns and moves of drawings.

Um et al., ICMI 2017, arXiv:1706.00527 (scaling and rotation of recorded movements); Park et al., 2019, arXiv:1904.08779
(spans). All touch continuous channels alone and leave padding as it is; all are differentiable in the data, twice.
Axes: b batch, n steps, c channels.
"""

import math

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from fusion_engine import Noise, Signal

_REACH = math.log(1.25)
_TURN = math.pi / 12
_MOVE = 0.25


def gain(signal: Signal, noise: Noise, continuous: Bool[Tensor, " c"]) -> Signal:
    """Multiply each channel by exp(u), u ~ U(-log 1.25, log 1.25): what is 0 stays 0."""
    x = signal.data
    u = 2 * noise.uniform(x.shape[-1], like=x) - 1
    return _where(signal, x * (u * _REACH).exp()[:, None], continuous)


def span(signal: Signal, noise: Noise, continuous: Bool[Tensor, " c"]) -> Signal:
    """Set up to a quarter of a row's steps, side by side, to 0."""
    x = signal.data
    valid = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if signal.mask is None else signal.mask
    u, length = noise.uniform(2, like=x), valid.sum(1)
    width = (u[:, 0] * (length // 4 + 1)).long()
    start = (u[:, 1] * (length + 1 - width)).long()
    place = valid.cumsum(1) - 1 - start[:, None]
    dropped = (place >= 0) & (place < width[:, None])
    return _where(signal, x.masked_fill(dropped[..., None], 0.0), continuous)


def scale(signal: Signal, noise: Noise, continuous: Bool[Tensor, " c"]) -> Signal:
    """Multiply all channels by one exp(u), u ~ U(-log 1.25, log 1.25)."""
    u = 2 * noise.uniform(like=signal.data) - 1
    return _where(signal, signal.data * rearrange((u * _REACH).exp(), "b -> b 1 1"), continuous)


def rotation(signal: Signal, noise: Noise, continuous: Bool[Tensor, " c"]) -> Signal:
    """Turn the plane of the first two channels by up to 15 degrees."""
    x = signal.data
    u = (2 * noise.uniform(like=x) - 1) * _TURN
    cos, sin = u.cos(), u.sin()
    turn = rearrange([cos, -sin, sin, cos], "(i j) b -> b i j", i=2)
    turned = einsum(turn, x[..., :2], "b i j, b n j -> b n i")
    return _where(signal, torch.cat([turned, x[..., 2:]], -1), continuous)


def translation(signal: Signal, noise: Noise, continuous: Bool[Tensor, " c"]) -> Signal:
    """Add to each channel u ~ U(-1/4, 1/4), in deviations."""
    x = signal.data
    u = 2 * noise.uniform(x.shape[-1], like=x) - 1
    return _where(signal, x + _MOVE * u[:, None], continuous)


OF_SERIES = {"gain": gain, "span": span}
OF_STROKES = {"scale": scale, "rotation": rotation, "translation": translation}
"""By name, in the order in which they are applied where none are named."""


def _where(signal: Signal, changed: Float[Tensor, "b n c"], continuous: Bool[Tensor, " c"]) -> Signal:
    """Take what was changed at valid steps of continuous channels."""
    chosen = continuous.to(changed.device).expand_as(changed)
    if signal.mask is not None:
        chosen = chosen & signal.mask[..., None]
    return Signal(torch.where(chosen, changed, signal.data), signal.mask, signal.position)
