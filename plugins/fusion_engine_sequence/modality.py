"""Sequences as a modality: ragged rows of steps, each with continuous and binary channels."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from fusion_engine import ConfigError, DataError, Likelihood, Media, Noise, SequenceModality, Signal, fill, require
from fusion_engine_sequence.augmentations import OF_SERIES
from fusion_engine_sequence.drawing import line_plot, pen_strokes

_PLACEHOLDER_LENGTH = 16
_PLACEHOLDER_CHANNELS = 3


class Series(SequenceModality):
    """Sequences [n c] of up to ``length`` steps.

        data = (raw - centre) / deviation        per continuous channel; binary channels stay 0 or 1

    A raw sample is an array, tensor or list [n c], or [n] for one channel; n may differ between samples and is never 0.
    ``restore`` gives float32 arrays [n c], with binary channels thresholded at one half.
    Everything that is None is learned by ``fit``; until then there are 3 channels, the last binary, 16 steps and no
    scaling.

    Args:
        channels: c.
        length: the longest sequence that fits; learned as the longest of the data.
        binary: the channels that hold 0 or 1; learned as those that hold nothing else.
        deviation: one number a channel that it is divided by; learned as the standard deviation, 1 for binary channels.
        centre: one number a channel that is subtracted first. Never learned: increments keep their zero.
    """

    encoder: ClassVar[str] = "encoder/sequence.rnn"
    decoder: ClassVar[str] = "decoder/sequence.rnn"
    augmentations: ClassVar[tuple[str, ...]] = tuple(OF_SERIES)

    def __init__(
        self,
        *,
        channels: Annotated[int, Field(ge=1)] | None = None,
        length: Annotated[int, Field(ge=1)] | None = None,
        binary: Sequence[Annotated[int, Field(ge=0)]] | None = None,
        deviation: Sequence[Annotated[float, Field(gt=0)]] | None = None,
        centre: Sequence[float] | None = None,
    ) -> None:
        given = {"channels": channels, "length": length, "binary": binary, "deviation": deviation, "centre": centre}
        self._set: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        known = next((len(x) for x in (deviation, centre) if x is not None), None)
        placeholder = known or max([_PLACEHOLDER_CHANNELS, *(i + 1 for i in binary or ())])
        self.channels = channels or placeholder
        self.length = length or _PLACEHOLDER_LENGTH
        self.binary = tuple(binary) if binary is not None else (() if channels or known else (self.channels - 1,))
        self.deviation = _per_channel("deviation", deviation, 1.0, self.channels)
        self.centre = _per_channel("centre", centre, 0.0, self.channels)
        _check_binary(self.binary, self.channels, self.deviation, self.centre)

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn channels, length, binary channels and deviations; what the config already sets is checked and kept.

        Raises:
            DataError: no sequences, empty ones, NaN, several numbers of channels, or such that do not fit the config.
            ConfigError: the config's own parts do not fit together for the channels that were found.
        """
        found = _Statistics()
        for raw in samples:
            array = read_sequence(raw)
            found.add(array)
            checks = {"channels": self._check_channels, "length": self._check_length, "binary": self._check_values}
            for key, check in checks.items():
                if key in self._set:
                    check(array)
        config = {**found.learned(self._set.get("binary")), **self._set}
        Series(**config)
        return {key: list(value) if isinstance(value, Sequence) else value for key, value in config.items()}

    def prepare(self, raw: Any) -> Signal:
        """Check and scale one sequence: data [n c] float32, mask [n].

        Raises:
            DataError: empty, NaN, too long, another number of channels, or a binary channel that holds something else.
        """
        array = read_sequence(raw)
        self._check_channels(array)
        self._check_length(array)
        self._check_values(array)
        data = (torch.from_numpy(array) - self.centre) / self.deviation
        return Signal(data.float(), torch.ones(len(data), dtype=torch.bool))

    def restore(self, signal: Signal) -> list[np.ndarray]:
        """Scale back, threshold binary channels at one half and cut to the mask: float32 [n c] a row."""
        raw = (signal.data.detach().cpu().double() * self.deviation + self.centre).float()
        for i in self.binary:
            raw[..., i] = (raw[..., i] >= 0.5).float()
        if signal.mask is None:
            return [row.numpy() for row in raw]
        return [row[mask].numpy() for row, mask in zip(raw, signal.mask.cpu(), strict=True)]

    def example(self, b: int) -> Signal:
        """Make ragged noise [b length c], the same at each call; the first row is of full length."""
        generator = torch.Generator().manual_seed(0)
        data = torch.randn(b, self.length, self.channels, generator=generator)
        for i in self.binary:
            data[..., i] = (data[..., i] > 0).float()
        lengths = torch.randint(1, self.length + 1, (b,), generator=generator)
        lengths[:1] = self.length
        mask = torch.arange(self.length) < lengths[:, None]
        return Signal(fill(data, mask), mask)

    def render(self, signal: Signal) -> list[Media]:
        """Draw each row as PNG: (dx, dy, pen lifted afterwards) as pen strokes, anything else as a line plot."""
        is_pen = self.channels == 3 and 2 in self.binary
        return [pen_strokes(row) if is_pen else line_plot(row) for row in self.restore(signal)]

    def augment(self, signal: Signal, name: str, noise: Noise) -> Signal:
        """Scale each continuous channel, or set a span of them to zero."""
        if name not in OF_SERIES:
            return super().augment(signal, name, noise)
        return OF_SERIES[name](signal, noise, self.continuous)

    @property
    def continuous(self) -> Bool[Tensor, " c"]:
        """Bool [c]: the channels that are not binary."""
        return torch.tensor([i not in self.binary for i in range(self.channels)])

    def relax(self, likelihood: Likelihood, noise: Noise, like: Signal | None = None) -> Signal:
        """Draw a differentiable sequence; binary channels are 0 or 1 going forward and probabilities going back.

        The straight-through estimator, Bengio et al., 2013, arXiv:1308.3432: a discriminator must not tell real from
        generated by channels that are not quite 0 or 1.
        """
        soft = super().relax(likelihood, noise, like)
        binary = torch.zeros(self.channels, dtype=torch.bool, device=soft.data.device)
        binary[list(self.binary)] = True
        hard = (soft.data >= 0.5).to(soft.data) + (soft.data - soft.data.detach())
        return Signal(torch.where(binary, hard, soft.data), soft.mask, soft.position)

    def _check_channels(self, array: np.ndarray) -> None:
        actual = array.shape[1]
        require(
            actual == self.channels,
            "a sequence has another number of channels",
            expected=f"{self.channels}",
            actual=f"{actual}",
        )

    def _check_length(self, array: np.ndarray) -> None:
        require(
            len(array) <= self.length,
            "a sequence is too long",
            expected=f"at most {self.length} steps",
            actual=f"{len(array)}",
            fix="set `length` to that of the longest sequence, or cut the sequences",
        )

    def _check_values(self, array: np.ndarray) -> None:
        for i in self.binary:
            strange = array[:, i][~np.isin(array[:, i], (0, 1))]
            require(
                len(strange) == 0,
                f"channel {i} of a sequence is binary",
                expected="0 or 1",
                actual=", ".join(f"{x:g}" for x in strange[:3]),
                fix="leave it out of `binary`",
            )


def _per_channel(name: str, values: Sequence[float] | None, default: float, channels: int) -> Float[Tensor, " c"]:
    if values is not None and len(values) != channels:
        raise ConfigError(f"`{name}` needs one number a channel", expected=f"{channels}", actual=f"{len(values)}")
    return torch.tensor([default] * channels if values is None else list(values), dtype=torch.float64)


def _check_binary(binary: Sequence[int], channels: int, deviation: Tensor, centre: Tensor) -> None:
    wrong = sorted(i for i in set(binary) if i >= channels)
    if wrong or len(set(binary)) < len(binary):
        raise ConfigError(
            "`binary` names channels once each", expected=f"0 to {channels - 1}", actual=f"{list(binary)}"
        )
    scaled = [i for i in binary if deviation[i] != 1 or centre[i] != 0]
    if scaled:
        raise ConfigError(
            "binary channels are not scaled",
            expected=f"deviation 1 and centre 0 for channels {scaled}",
            actual="others",
        )


def read_sequence(raw: Any) -> np.ndarray:
    """Read a sequence as float64 [n c]."""
    try:
        array = np.asarray(raw.detach().cpu() if isinstance(raw, Tensor) else raw)
    except ValueError as error:
        raise DataError(
            "the steps of a sequence differ in their channels", expected="an array [n c]", actual=str(error)
        ) from error
    array = array[:, None] if array.ndim == 1 else array
    require(array.dtype.kind in "buif", "a sequence holds numbers", expected="numbers", actual=f"{array.dtype}")
    require(array.ndim == 2, "a sequence has two axes", expected="[steps channels]", actual=f"shape {array.shape}")
    require(
        array.size > 0,
        "a sequence is empty",
        expected="at least one step and channel",
        actual=f"shape {array.shape}",
        fix="pass None for a missing one",
    )
    array = array.astype(np.float64)
    bad = ~np.isfinite(array).all(axis=1)
    require(
        not bad.any(),
        "a sequence holds NaN or Inf",
        expected="finite numbers",
        actual=f"some that are not, first at step {bad.argmax()}",
        fix="cut or fill the gaps, or pass None for a missing sequence",
    )
    return array


class _Statistics:
    """Running length and moments of sequences, per channel."""

    def __init__(self) -> None:
        self.length, self.count = 0, 0
        self.sum = self.squares = np.zeros(0)
        self.binary = np.zeros(0, bool)

    def add(self, array: np.ndarray) -> None:
        channels = array.shape[1]
        if self.count == 0:
            self.sum, self.squares, self.binary = np.zeros(channels), np.zeros(channels), np.ones(channels, bool)
        require(
            channels == len(self.sum),
            "the sequences have several numbers of channels",
            expected=f"{len(self.sum)} for all",
            actual=f"also {channels}",
        )
        self.length, self.count = max(self.length, len(array)), self.count + len(array)
        self.sum, self.squares = self.sum + array.sum(0), self.squares + (array**2).sum(0)
        self.binary = np.logical_and(self.binary, np.isin(array, (0, 1)).all(0))

    def learned(self, binary: Sequence[int] | None) -> dict[str, Any]:
        require(self.count > 0, "there are no sequences to learn from", expected="at least one", actual="none")
        binary = np.flatnonzero(self.binary).tolist() if binary is None else list(binary)
        deviation = np.sqrt(np.maximum(self.squares / self.count - (self.sum / self.count) ** 2, 0))
        deviation[deviation < 1e-6] = 1.0
        deviation[[i for i in binary if i < len(deviation)]] = 1.0
        return {"channels": len(self.sum), "length": self.length, "binary": binary, "deviation": deviation.tolist()}
