"""Hidden parts of samples: masks for them, signals without them, weights of what surrounds them.

Axes: b batch, n steps or tokens, c h w of an image. Masks are True where known.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool1d, avg_pool2d

from fusion_engine.components import (
    ImageModality,
    Modality,
    SequenceModality,
    SpectrogramModality,
    TextModality,
    WaveformModality,
)
from fusion_engine.errors import DataError
from fusion_engine.values import Signal, fill

WINDOW = 7
"""How far a neighbourhood reaches in an image or a spectrogram, and at least along an order: as in Yeh et al., 2017."""


def box(h: int, w: int, top: int, left: int, height: int, width: int) -> Bool[Tensor, "h w"]:
    """Mask an image: False inside of a rectangle, True around it.

    Raises:
        DataError: the rectangle does not lie in the image.
    """
    if not (0 <= top < top + height <= h and 0 <= left < left + width <= w):
        raise DataError(
            "the rectangle does not lie in the image",
            expected=f"rows within 0 to {h}, columns within 0 to {w}",
            actual=f"rows {top} to {top + height}, columns {left} to {left + width}",
        )
    known = torch.ones(h, w, dtype=torch.bool)
    known[top : top + height, left : left + width] = False
    return known


def gap(n: int, start: int, stop: int) -> Bool[Tensor, " n"]:
    """Mask n steps, frames, samples or tokens: False from start up to but without stop, True elsewhere.

    Raises:
        DataError: the span does not lie within them.
    """
    if not 0 <= start < stop <= n:
        raise DataError(
            "the gap does not lie in the sample", expected=f"0 <= start < stop <= {n}", actual=f"{start} to {stop}"
        )
    known = torch.ones(n, dtype=torch.bool)
    known[start:stop] = False
    return known


def spread(mask: Tensor, shape: Sequence[int], modality: Modality, where: str) -> Tensor:
    """Spread one sample's mask over all axes of its data.

    Args:
        mask: over the leading axes of the data, or over [h w] of an image.
        shape: of the data.
        modality: whose sample it is.
        where: named in errors.

    Raises:
        DataError: the mask holds no booleans, or has another shape.
    """
    shape, is_image = tuple(shape), isinstance(modality, ImageModality)
    fitting = [shape[1:], shape] if is_image else [shape[:n] for n in range(1, len(shape) + 1)]
    if mask.dtype != torch.bool or tuple(mask.shape) not in fitting:
        expected = " or ".join(f"[{' '.join(map(str, s))}]" for s in fitting)
        actual = f"{str(mask.dtype).removeprefix('torch.')} [{' '.join(map(str, mask.shape))}]"
        raise DataError(
            "a mask does not fit the prepared sample",
            where=where,
            expected=f"bool {expected}" if fitting else "no mask: there is nothing inside of such a sample",
            actual=actual,
            fix="masks are over the signal's own axes, True where known; see fusion_engine.inpainting.box and gap"
            if fitting
            else "leave the sample out and use impute",
        )
    if not is_image:
        mask = mask.reshape(*mask.shape, *[1] * (len(shape) - mask.ndim))
    return mask.expand(shape)


def hide(signal: Signal, known: Bool[Tensor, "b ..."], modality: Modality) -> Signal:
    """Take what is not known out of signals, as far as an encoder can be told.

    Unknown numbers are zero, which for centred data is the mean; unknown tokens are padding; steps of a ragged
    sequence of which nothing is known are left out, and the others close up, as masks are prefixes.

    Args:
        signal: data [b ...].
        known: of the data's shape.
        modality: of the signal.
    """
    if isinstance(modality, TextModality):
        return Signal(signal.data.masked_fill(~known, modality.padding), signal.mask, signal.position)
    data = signal.data.masked_fill(~known, 0)
    if signal.mask is None:
        return Signal(data, None, signal.position)
    kept = signal.mask & known.flatten(2).any(2)
    order = (~kept).long().argsort(dim=1, stable=True)

    def closed(x: Tensor) -> Tensor:
        return x.gather(1, order.reshape(*order.shape, *[1] * (x.ndim - 2)).expand_as(x))

    mask = closed(kept)
    return Signal(fill(closed(data), mask), mask, None if signal.position is None else closed(signal.position))


def surroundings(
    known: Bool[Tensor, "b ..."], valid: Bool[Tensor, "b ..."], modality: Modality, window: int | None = None
) -> Float[Tensor, "b ..."]:
    """Weigh what is known by how much around it is not: Yeh et al., 2017, arXiv:1607.07539, equation 4.

        W_i = [i known] sum_{j in N(i)} [j unknown] / |N(i)|

    N(i) is the window around i in an image or a spectrogram, or along the steps, samples or tokens. In a row that lacks
    nothing, and where there is neither grid nor order, every W_i is 1.

    Args:
        known: of the data's shape.
        valid: of the same shape; padding is nobody's neighbour.
        modality: tells the grid or the order.
        window: an odd number; by default 7 in a grid, and along an order a quarter of it where that is more.
    """
    there = (known & valid).float()
    on_grid = isinstance(modality, ImageModality | SpectrogramModality)
    if not on_grid and not isinstance(modality, SequenceModality | WaveformModality | TextModality):
        return there
    n = known.shape[1]
    size = window or (WINDOW if on_grid else max(WINDOW, n // 4 | 1))

    def around(x: Tensor) -> Tensor:
        if on_grid:
            planes = x if x.ndim == 4 else x[:, None]
            return avg_pool2d(planes, size, 1, size // 2).reshape(x.shape)
        lines = x.reshape(len(x), n, -1).transpose(1, 2)
        return avg_pool1d(lines, size, 1, size // 2).transpose(1, 2).reshape(x.shape)

    missing = (~known & valid).float()
    share = around(missing) / around(valid.float()).clamp(min=1e-6)
    lacks = missing.flatten(1).any(1).reshape(-1, *[1] * (known.ndim - 1))
    return torch.where(lacks, share * there, there)
