"""Reading raw images, whatever they come as, and laying them out as [c h w]."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from fusion_engine import DataError, require

_KEPT_MODES = frozenset({"1", "L", "RGB", "RGBA", "I", "I;16", "F"})
_USUAL_CHANNELS = frozenset({1, 3, 4})


def read(raw: Any, channels: int | None = None) -> np.ndarray:
    """Read an array, tensor, PIL image or path as an array [c h w] of its own number type.

    The channel axis is the first or last one, whichever has ``channels`` entries (1, 3 or 4 where that is not known);
    where both do, it is the last, as PIL and matplotlib have it, but the first of a tensor.

    Raises:
        DataError: it is no image, cannot be read, holds NaN or Inf, or no axis can be the channel axis.
    """
    array = _array(raw)
    require(array.dtype.kind in "buif", "an image holds numbers", expected="numbers", actual=f"{array.dtype}")
    require(
        array.size > 0, "an image is empty", expected="at least one pixel", actual=f"an array of shape {array.shape}"
    )
    finite = array.dtype.kind != "f" or bool(np.isfinite(array).all())
    require(
        finite,
        "an image holds NaN or Inf",
        expected="finite numbers",
        actual="some that are not",
        fix="pass None for a missing image",
    )
    if array.ndim == 2:
        return array[None]
    require(
        array.ndim == 3,
        "an image has two or three axes",
        expected="[h w], [h w c] or [c h w]",
        actual=f"shape {array.shape}",
    )
    return _channels_first(array, {channels} if channels else _USUAL_CHANNELS, prefer_first=isinstance(raw, Tensor))


def _array(raw: Any) -> np.ndarray:
    if isinstance(raw, str | Path):
        raw = _read_file(str(raw))
    if isinstance(raw, PIL.Image.Image):
        has_alpha = raw.mode in ("LA", "PA", "La", "RGBa") or "transparency" in raw.info
        raw = raw if raw.mode in _KEPT_MODES else raw.convert("RGBA" if has_alpha else "RGB")
    if isinstance(raw, Tensor):
        return raw.detach().cpu().float().numpy() if raw.dtype == torch.bfloat16 else raw.detach().cpu().numpy()
    try:
        return np.asarray(raw)
    except ValueError as error:
        raise DataError(
            "a list of unequal rows is no image", expected="rows of one length", actual=str(error)
        ) from error


def _read_file(path: str) -> PIL.Image.Image | np.ndarray:
    """Read an image file, or an array from a .npy file."""
    shown = path if len(path) <= 100 else path[:97] + "..."
    fix = None
    if path.lstrip().startswith(("[", "(")):
        fix = "this is the text of an array, as a CSV holds it: turn the column into arrays first, with json.loads say"
    try:
        if path.endswith(".npy"):
            array: np.ndarray = np.load(path, allow_pickle=False)
            return array
        with PIL.Image.open(path) as image:
            image.load()
            return image
    except (OSError, ValueError, EOFError, PIL.Image.DecompressionBombError) as error:
        actual = "no such file" if isinstance(error, FileNotFoundError) else str(error)[:200]
        raise DataError(
            f"cannot read the image {shown!r}", expected="a readable image file or .npy", actual=actual, fix=fix
        ) from error


def _channels_first(array: np.ndarray, allowed: Collection[int], prefer_first: bool) -> np.ndarray:
    first, last = array.shape[0] in allowed, array.shape[2] in allowed
    require(
        first or last,
        "cannot tell which axis of an image holds its channels",
        expected=f"a first or last axis of {' or '.join(str(c) for c in sorted(allowed))} entries",
        actual=f"shape {array.shape}",
        fix="set `shape` to (channels, height, width)",
    )
    return array if first and (prefer_first or not last) else rearrange(array, "h w c -> c h w")


def as_float(pixels: np.ndarray, size: tuple[int, int] | None = None) -> Float[Tensor, "c h w"]:
    """Turn pixels [c h w] into float32, resized to ``size`` (h, w) where one is given."""
    image = torch.from_numpy(pixels.astype(np.float32))
    if size is None or tuple(image.shape[1:]) == tuple(size):
        return image
    return interpolate(image[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]
