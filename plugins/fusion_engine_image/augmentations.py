"""What a discriminator may see images through: DiffAugment, Zhao et al., NeurIPS 2020, arXiv:2006.10738.

Prepared images have unit deviation and mean 0, so that what is cut out or shifted in is the mean, as in the paper.
Axes: b batch, c channels, h height, w width. Everything is differentiable in the data, twice.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fusion_engine import Noise

Images = Float[Tensor, "b c h w"]


def colour(x: Images, noise: Noise) -> Images:
    """Change brightness, saturation (of three channels) and contrast, in this order.

        x + 2 u1 - 1      mean_c + 2 u2 (x - mean_c)      mean_chw + (u3 + 1/2) (x - mean_chw)      u ~ U(0, 1)

    The paper shifts by up to half of what images in [-1, 1] span to one side, about one deviation of such.
    """
    brightness, saturation, contrast = rearrange(noise.uniform(3, like=x), "b u -> u b 1 1 1").unbind()
    x = x + 2 * brightness - 1
    if x.shape[1] == 3:
        grey = x.mean(1, keepdim=True)
        x = grey + 2 * saturation * (x - grey)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (contrast + 0.5) * (x - mean)


def translation(x: Images, noise: Noise, ratio: float = 0.125) -> Images:
    """Shift by up to an eighth of each side; what comes in is 0."""
    b, _, h, w = x.shape
    u = noise.uniform(2, like=x)
    rows, columns = _shifted(u[:, 0], h, ratio), _shifted(u[:, 1], w, ratio)
    batch = torch.arange(b, device=x.device)[:, None, None]
    moved = x[batch, :, rows.clamp(0, h - 1)[:, :, None], columns.clamp(0, w - 1)[:, None, :]]
    inside = _within(rows, h)[:, :, None] & _within(columns, w)[:, None, :]
    return rearrange(moved, "b h w c -> b c h w").masked_fill(~inside[:, None], 0.0)


def cutout(x: Images, noise: Noise, ratio: float = 0.5) -> Images:
    """Set a box of half of each side to 0; its centre lies anywhere, so that the border may cut it."""
    _, _, h, w = x.shape
    u = noise.uniform(2, like=x)
    box = _span(u[:, 0], h, ratio)[:, :, None] & _span(u[:, 1], w, ratio)[:, None, :]
    return x.masked_fill(box[:, None], 0.0)


AUGMENTATIONS = {"colour": colour, "translation": translation, "cutout": cutout}
"""By name, in the order in which they are applied where none are named."""


def _shifted(u: Float[Tensor, " b"], side: int, ratio: float) -> Int[Tensor, "b side"]:
    """Where each place takes its value from, for shifts that are uniform over [-reach, reach]."""
    reach = int(side * ratio + 0.5)
    shift = (u * (2 * reach + 1)).long() - reach
    return torch.arange(side, device=u.device) - shift[:, None]


def _within(index: Int[Tensor, "b side"], side: int) -> Bool[Tensor, "b side"]:
    return (index >= 0) & (index < side)


def _span(u: Float[Tensor, " b"], side: int, ratio: float) -> Bool[Tensor, "b side"]:
    """The places of one side that a box covers."""
    size = int(side * ratio + 0.5)
    start = (u * (side + 1 - size % 2)).long() - size // 2
    place = torch.arange(side, device=u.device) - start[:, None]
    return _within(place, size)
