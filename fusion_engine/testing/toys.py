"""Small modalities to test with, one a family: raw samples are plain lists, so that every test can write them down."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.distributions import Categorical

from fusion_engine.components import (
    CategoryModality,
    ImageModality,
    NumberModality,
    SequenceModality,
    TagsModality,
    require,
)
from fusion_engine.errors import DataError
from fusion_engine.likelihoods import DistributionLikelihood, Likelihood
from fusion_engine.noise import Noise
from fusion_engine.values import Media, Signal, fill

Positive = Annotated[int, Field(ge=1)]


def _tensor(raw: Any, axes: int) -> Tensor:
    try:
        x = torch.tensor(raw, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError("no numbers", expected=f"nested lists of {axes} axes", actual=repr(raw)[:80]) from error
    require(
        x.ndim == axes, "wrong number of axes", expected=f"nested lists of {axes} axes", actual=f"shape {list(x.shape)}"
    )
    return x


def _one_shape(tensors: Iterable[Tensor]) -> list[int]:
    shapes = {tuple(x.shape) for x in tensors}
    require(len(shapes) == 1, "the samples have several shapes, or there are none", expected="one", actual=str(shapes))
    return list(shapes.pop())


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _text(rows: Sequence[Any]) -> list[Media]:
    return [Media("text/plain", repr(row).encode()) for row in rows]


class ToyVector(NumberModality):
    """Vectors [b c]; a raw sample is a list of numbers."""

    encoder: ClassVar[str] = "encoder/toys.linear"
    decoder: ClassVar[str] = "decoder/toys.linear"
    augmentations: ClassVar[tuple[str, ...]] = ("stretch",)

    def __init__(self, *, channels: Positive = 3) -> None:
        self.channels, self.shape = channels, (channels,)

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn how long the vectors are."""
        return {"channels": _one_shape(_tensor(raw, 1) for raw in samples)[0]}

    def prepare(self, raw: Any) -> Signal:
        """Read a list of numbers."""
        x = _tensor(raw, 1)
        require(x.shape == self.shape, "another length", expected=str(self.shape), actual=str(tuple(x.shape)))
        return Signal(x)

    def restore(self, signal: Signal) -> list[Any]:
        """Give lists of numbers."""
        return list(signal.data.tolist())

    def example(self, b: int) -> Signal:
        """Make normal noise."""
        return Signal(_noise(b, *self.shape))

    def augment(self, signal: Signal, name: str, noise: Noise) -> Signal:
        """Multiply each number by one between a half and three halves."""
        if name == "stretch":
            return Signal(signal.data * (0.5 + noise.uniform(*self.shape, like=signal.data)))
        return super().augment(signal, name, noise)

    def render(self, signal: Signal) -> list[Media]:
        """Write the numbers."""
        return _text(self.restore(signal))


class ToyImage(ImageModality):
    """Images [b c h w]; a raw sample is nested lists."""

    encoder: ClassVar[str] = "encoder/toys.linear"
    decoder: ClassVar[str] = "decoder/toys.linear"

    def __init__(self, *, shape: Annotated[Sequence[Positive], Field(min_length=3, max_length=3)] = (1, 8, 8)) -> None:
        self.shape = (shape[0], shape[1], shape[2])

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn the shape."""
        return {"shape": _one_shape(_tensor(raw, 3) for raw in samples)}

    def prepare(self, raw: Any) -> Signal:
        """Read nested lists."""
        x = _tensor(raw, 3)
        require(x.shape == self.shape, "another shape", expected=str(self.shape), actual=str(tuple(x.shape)))
        return Signal(x)

    def restore(self, signal: Signal) -> list[Any]:
        """Give nested lists."""
        return list(signal.data.tolist())

    def example(self, b: int) -> Signal:
        """Make normal noise."""
        return Signal(_noise(b, *self.shape))

    def render(self, signal: Signal) -> list[Media]:
        """Write the numbers."""
        return _text(self.restore(signal))


class ToySequence(SequenceModality):
    """Ragged sequences [b n c]; a raw sample is a list of steps, each a list of numbers."""

    encoder: ClassVar[str] = "encoder/toys.linear"
    decoder: ClassVar[str] = "decoder/toys.linear"

    def __init__(self, *, channels: Positive = 2, length: Positive = 6) -> None:
        self.channels, self.length, self.binary = channels, length, ()

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn channels and the longest length."""
        read = [_tensor(raw, 2) for raw in samples]
        return {"channels": _one_shape(x[0] for x in read)[0], "length": max(len(x) for x in read)}

    def prepare(self, raw: Any) -> Signal:
        """Read a list of steps."""
        x = _tensor(raw, 2)
        good = x.shape[1] == self.channels and 0 < len(x) <= self.length
        require(
            good,
            "another shape",
            expected=f"1 to {self.length} steps of {self.channels}",
            actual=str(tuple(x.shape)),
        )
        return Signal(x, torch.ones(len(x), dtype=torch.bool))

    def restore(self, signal: Signal) -> list[Any]:
        """Give lists of the valid steps."""
        mask = torch.ones(signal.data.shape[:2]).bool() if signal.mask is None else signal.mask
        return [row[valid].tolist() for row, valid in zip(signal.data, mask, strict=True)]

    def example(self, b: int) -> Signal:
        """Make normal noise of lengths 1, ..., length, the first row of full length."""
        lengths = torch.tensor([self.length - i % self.length for i in range(b)])
        mask = torch.arange(self.length) < lengths[:, None]
        return Signal(fill(_noise(b, self.length, self.channels), mask), mask)

    def render(self, signal: Signal) -> list[Media]:
        """Write the steps."""
        return _text(self.restore(signal))


class ToyCategory(CategoryModality):
    """Labels [b], or soft one-hot rows [b v]; a raw sample is a whole number."""

    encoder: ClassVar[str] = "encoder/toys.embedding"
    decoder: ClassVar[str] = "decoder/toys.linear"

    def __init__(self, *, classes: Annotated[Sequence[int], Field(min_length=1)] = (0, 1, 2, 3)) -> None:
        self.classes = list(classes)

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn the classes."""
        found = set(samples)
        whole = bool(found) and all(isinstance(raw, int) for raw in found)
        require(whole, "labels are whole numbers, at least one", expected="such", actual=repr(found)[:80])
        return {"classes": sorted(found)}

    def prepare(self, raw: Any) -> Signal:
        """Look a label up."""
        require(raw in self.classes, "an unknown label", expected=str(self.classes), actual=repr(raw))
        return Signal(torch.tensor(list(self.classes).index(raw)))

    def restore(self, signal: Signal) -> list[Any]:
        """Give the labels."""
        index = signal.data.argmax(-1) if signal.data.is_floating_point() else signal.data
        return [self.classes[i] for i in index.tolist()]

    def example(self, b: int) -> Signal:
        """Count through the classes."""
        return Signal(torch.arange(b) * 3 % len(self.classes))

    def render(self, signal: Signal) -> list[Media]:
        """Write the labels."""
        return _text(self.restore(signal))

    def relax(self, likelihood: Likelihood, noise: Noise, like: Signal | None = None) -> Signal:
        """Draw soft one-hot rows, by the Gumbel softmax."""
        assert isinstance(likelihood, DistributionLikelihood)
        assert isinstance(likelihood.distribution, Categorical)
        logits = likelihood.distribution.logits
        uniform = noise.uniform(len(self.classes), lead=logits.shape[:-2], like=logits).clamp(1e-6, 1 - 1e-6)
        return Signal((logits - (-uniform.log()).log()).softmax(-1))


class ToyTags(TagsModality):
    """Sets of labels [b v]; a raw sample is a sorted list of whole numbers."""

    encoder: ClassVar[str] = "encoder/toys.linear"
    decoder: ClassVar[str] = "decoder/toys.linear"

    def __init__(self, *, classes: Annotated[Sequence[int], Field(min_length=1)] = (0, 1, 2)) -> None:
        self.classes = list(classes)

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn the classes."""
        read = list(samples)
        require(all(isinstance(raw, list) for raw in read), "tags are a list", expected="such", actual=repr(read)[:80])
        return {"classes": sorted({*self.classes, *(tag for raw in read for tag in raw)})}

    def prepare(self, raw: Any) -> Signal:
        """Look the labels up."""
        good = isinstance(raw, list) and set(raw) <= set(self.classes)
        require(good, "unknown tags", expected=str(self.classes), actual=repr(raw)[:80])
        return Signal(torch.tensor([float(c in raw) for c in self.classes]))

    def restore(self, signal: Signal) -> list[Any]:
        """Give the labels."""
        return [[c for c, p in zip(self.classes, row, strict=True) if p >= 0.5] for row in signal.data.tolist()]

    def example(self, b: int) -> Signal:
        """Count in binary."""
        return Signal((torch.arange(b)[:, None] >> torch.arange(len(self.classes)) & 1).float())

    def render(self, signal: Signal) -> list[Media]:
        """Write the labels."""
        return _text(self.restore(signal))
