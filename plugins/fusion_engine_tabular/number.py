"""Numbers as a modality: one or several a sample, each in its own unit."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusion_engine import ConfigError, DataError, Media, NumberModality, Signal, require


class Number(NumberModality):
    """One number a sample, or a list of c numbers.

        prepared = (raw - centre) / deviation, a channel

    Raw samples are a number, or a list, tuple, array or tensor of c numbers; restored ones are floats in raw units, one
    where c is 1 and else a list of c. Signals are [b c]. Until ``fit`` has seen data there is one channel.

    Args:
        centre: what is taken from each channel; learned as the mean.
        deviation: what each channel is divided by; learned as the standard deviation, 1 for a channel that is constant.
    """

    encoder: ClassVar[str] = "encoder/tabular.numbers"
    decoder: ClassVar[str] = "decoder/tabular.numbers"

    def __init__(
        self,
        *,
        centre: Annotated[Sequence[float], Field(min_length=1)] | None = None,
        deviation: Annotated[Sequence[Annotated[float, Field(gt=0)]], Field(min_length=1)] | None = None,
    ) -> None:
        given = {len(x) for x in (centre, deviation) if x is not None}
        if len(given) > 1:
            raise ConfigError(
                "`centre` and `deviation` have different lengths",
                expected="one number a channel in each",
                actual=f"{len(centre or ())} and {len(deviation or ())}",
            )
        self.channels = given.pop() if given else 1
        self._given = {k: list(v) for k, v in {"centre": centre, "deviation": deviation}.items() if v is not None}
        self.centre = torch.tensor(self._given.get("centre", [0.0] * self.channels), dtype=torch.float64)
        self.deviation = torch.tensor(self._given.get("deviation", [1.0] * self.channels), dtype=torch.float64)

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn centre and deviation of each channel; what the config sets stays.

        Raises:
            DataError: no numbers, or samples of different lengths.
        """
        read = [_numbers(raw) for raw in samples]
        require(bool(read), "there are no numbers to learn from", expected="at least one sample", actual="none")
        lengths = sorted({len(x) for x in read})
        expected = str(self.channels) if self._given else "one"
        good = len(lengths) == 1 and (not self._given or lengths == [self.channels])
        require(good, "samples of another length", expected=f"{expected} length", actual=str(lengths))
        values = torch.stack(read)
        centre, deviation = values.mean(0), values.std(0, correction=0)
        constant = deviation <= 1e-9 * values.abs().amax(0)
        learned = {"centre": centre.tolist(), "deviation": deviation.masked_fill(constant, 1.0).tolist()}
        return {**learned, **self._given}

    def prepare(self, raw: Any) -> Signal:
        """Shift and scale one sample: data [c].

        Raises:
            DataError: no numbers, another number of them, or one that is not finite.
        """
        x = _numbers(raw)
        require(
            len(x) == self.channels,
            "another number of numbers",
            expected=str(self.channels),
            actual=str(len(x)),
            fix="channels that may be missing alone are modalities of their own",
        )
        return Signal(((x - self.centre) / self.deviation).float())

    def restore(self, signal: Signal) -> list[Any]:
        """Return each row in raw units: a float, or a list of floats where there are several channels."""
        raw = signal.data.detach().double().cpu() * self.deviation + self.centre
        found: list[Any] = raw[:, 0].tolist() if self.channels == 1 else raw.tolist()
        return found

    def example(self, b: int) -> Signal:
        """Draw standard normal numbers [b c], the same at each call."""
        return Signal(torch.randn(b, self.channels, generator=torch.Generator().manual_seed(0)))

    def render(self, signal: Signal) -> list[Media]:
        """Write each row's numbers, four digits of each."""
        rows = signal.data.detach().double().cpu() * self.deviation + self.centre
        return [Media("text/plain", ", ".join(f"{x:.4g}" for x in row).encode()) for row in rows.tolist()]


def _numbers(raw: Any) -> Float[Tensor, " c"]:
    """Read a number, or a list of them.

    Raises:
        DataError: it is something else, or not finite.
    """
    try:
        x = torch.as_tensor(raw, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            "a sample is a number or a list of numbers", expected="such", actual=repr(raw)[:80], fix="None if missing"
        ) from error
    shape = str(list(x.shape))
    require(x.ndim <= 1 and x.numel() > 0, "a sample has at most one axis", expected="[] or [c]", actual=shape)
    if not x.isfinite().all():  # `repr` of an array takes longer than all the rest
        raise DataError("a number is not finite", expected="finite", actual=repr(raw)[:80])
    return x.reshape(-1)
