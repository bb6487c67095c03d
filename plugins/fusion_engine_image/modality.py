"""Images as a modality: any size, any number of channels, scaled to zero mean and unit deviation."""

import io
import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import PIL.Image
import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusion_engine import ConfigError, DataError, ImageModality, Media, Noise, Signal, require
from fusion_engine_image.augmentations import AUGMENTATIONS
from fusion_engine_image.pixels import as_float, read

_SMALLEST_RENDERED = 64
_Size = Annotated[int, Field(ge=1)]


class Image(ImageModality):
    """Images [c h w] of one shape.

        data = (pixels - centre) / deviation

    A raw sample is an array or tensor [h w], [h w c] or [c h w], a PIL image, or a path. ``restore`` gives float32
    arrays in the raw range, clipped to it: [h w] where there is one channel, else [h w c].
    Everything that is None is learned by ``fit``; until then shape is (3, 32, 32), nothing is scaled and nothing
    clipped.

    Args:
        shape: (channels, height, width).
        centre: the mean over all pixels of all images.
        deviation: their standard deviation.
        low: the smallest raw value; learned as the data's, or 0 for 8-bit images that use at least half of their range.
        high: the largest raw value; learned as the data's, or 255 for such images.
        size: resize every image to this (height, width).
    """

    encoder: ClassVar[str] = "encoder/image.conv"
    decoder: ClassVar[str] = "decoder/image.conv"
    augmentations: ClassVar[tuple[str, ...]] = tuple(AUGMENTATIONS)

    def __init__(
        self,
        *,
        shape: Annotated[Sequence[_Size], Field(min_length=3, max_length=3)] | None = None,
        centre: float | None = None,
        deviation: Annotated[float, Field(gt=0)] | None = None,
        low: float | None = None,
        high: float | None = None,
        size: Annotated[Sequence[_Size], Field(min_length=2, max_length=2)] | None = None,
    ) -> None:
        given = {"shape": shape, "centre": centre, "deviation": deviation, "low": low, "high": high}
        self._set: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        self._size = None if size is None else (size[0], size[1])
        c, h, w = shape or (3, *(self._size or (32, 32)))
        self.shape = (c, h, w)
        self.centre = 0.0 if centre is None else centre
        self.deviation = 1.0 if deviation is None else deviation
        self.low, self.high = low, high
        if self._size not in (None, self.shape[1:]):
            raise ConfigError(
                "`size` and `shape` disagree",
                expected=f"size {self.shape[1:]}",
                actual=f"{self._size}",
                fix="leave one out",
            )
        if low is not None and high is not None and low >= high:
            raise ConfigError("`low` must lie below `high`", expected=f"less than {high}", actual=f"{low}")

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The range of raw values, ``low`` to ``high``, in prepared units."""
        if self.low is None or self.high is None:
            return None
        return (self.low - self.centre) / self.deviation, (self.high - self.centre) / self.deviation

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn shape, centre, deviation and range; what the config already sets is checked and kept.

        Raises:
            DataError: no images, images of several shapes without ``size``, or such that do not fit the config.
        """
        found = _Statistics()
        for raw in samples:
            pixels = self._read(raw)
            image = as_float(pixels, self._size)
            found.add(image, pixels.dtype == np.uint8)
            if "shape" in self._set:
                self._check(image)
        learned = {**found.learned(), **self._set}
        self._check_range(found)
        return {**learned, "shape": list(learned["shape"])}

    def prepare(self, raw: Any) -> Signal:
        """Read, resize and scale one image to float32 [c h w].

        Raises:
            DataError: it is no image or of another shape.
        """
        image = as_float(self._read(raw), self._size)
        self._check(image)
        return Signal((image - self.centre) / self.deviation)

    def restore(self, signal: Signal) -> list[np.ndarray]:
        """Scale back and clip: a float32 array [h w] or [h w c] a row."""
        images = self._raw(signal).numpy()
        return [image[0] if len(image) == 1 else rearrange(image, "c h w -> h w c") for image in images]

    def example(self, b: int) -> Signal:
        """Make normal noise [b c h w], the same at each call."""
        return Signal(torch.randn(b, *self.shape, generator=torch.Generator().manual_seed(0)))

    def render(self, signal: Signal) -> list[Media]:
        """Draw each row as a PNG, small images enlarged; channels that are no colours stand side by side."""
        return [self._png(image) for image in self._raw(signal)]

    def augment(self, signal: Signal, name: str, noise: Noise) -> Signal:
        """Change colours, shift, or cut a box out (DiffAugment, Zhao et al., 2020, arXiv:2006.10738)."""
        if name not in AUGMENTATIONS:
            return super().augment(signal, name, noise)
        return Signal(AUGMENTATIONS[name](signal.data, noise))

    def _read(self, raw: Any) -> np.ndarray:
        return read(raw, self.shape[0] if "shape" in self._set else None)

    def _raw(self, signal: Signal) -> Float[Tensor, "b c h w"]:
        raw: Tensor = signal.data.detach().cpu().float() * self.deviation + self.centre
        return raw if self.low is None and self.high is None else raw.clamp(self.low, self.high)

    def _check(self, image: Float[Tensor, "c h w"]) -> None:
        require(
            tuple(image.shape) == self.shape,
            "an image has another shape than the modality",
            expected=f"(channels, height, width) = {self.shape}",
            actual=f"{tuple(image.shape)}",
            fix="set `size` to resize every image, or `shape` to that of the data",
        )

    def _check_range(self, found: "_Statistics") -> None:
        """Refuse data in other units than the configured range; a little beyond it is only clipped by ``restore``."""
        if self.low is None or self.high is None:
            return
        slack = self.high - self.low
        require(
            self.low - slack <= found.low and found.high <= self.high + slack,
            "the images lie far outside of the configured range",
            expected=f"about {self.low} to {self.high}",
            actual=f"{found.low} to {found.high}",
            fix="set `low` and `high` to the range of the raw values",
        )

    def _png(self, image: Float[Tensor, "c h w"]) -> Media:
        low = image.min() if self.low is None else self.low
        high = image.max() if self.high is None else self.high
        bytes_ = ((image - low) / max(float(high - low), 1e-12) * 255).round().clamp(0, 255).byte().numpy()
        colours = (
            rearrange(bytes_, "c h w -> h w c") if len(bytes_) in (3, 4) else rearrange(bytes_, "c h w -> h (c w)")
        )
        picture = PIL.Image.fromarray(colours)
        factor = math.ceil(_SMALLEST_RENDERED / min(self.shape[1:]))
        stream = io.BytesIO()
        picture.resize((picture.width * factor, picture.height * factor), PIL.Image.Resampling.NEAREST).save(
            stream, "PNG"
        )
        return Media("image/png", stream.getvalue())


class _Statistics:
    """Running shape, moments and range of images."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] | None = None
        self.count, self.sum, self.squares = 0, 0.0, 0.0
        self.low, self.high, self.is_bytes = math.inf, -math.inf, True

    def add(self, image: Float[Tensor, "c h w"], is_bytes: bool) -> None:
        shape = tuple(image.shape)
        if self.shape not in (None, shape):
            raise DataError(
                "the images have several shapes",
                expected=f"{self.shape} (channels, height, width) for all",
                actual=f"also {shape}",
                fix="set `size` to (height, width): every image is then resized to it",
            )
        exact = image.double()
        self.shape, self.count, self.is_bytes = shape, self.count + image.numel(), self.is_bytes and is_bytes
        self.sum, self.squares = self.sum + float(exact.sum()), self.squares + float(exact.square().sum())
        self.low, self.high = min(self.low, float(image.min())), max(self.high, float(image.max()))

    def learned(self) -> dict[str, Any]:
        require(self.shape is not None, "there are no images to learn from", expected="at least one", actual="none")
        centre = self.sum / self.count
        deviation = math.sqrt(max(self.squares / self.count - centre**2, 0.0))
        low, high = (0.0, 255.0) if self.is_bytes and self.high >= 128 else (self.low, self.high)
        return {
            "shape": self.shape,
            "centre": centre,
            "deviation": deviation if deviation > 1e-6 else 1.0,
            "low": low,
            "high": max(high, low + 1e-6),
        }
