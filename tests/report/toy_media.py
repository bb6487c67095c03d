"""Toy modalities of a few numbers that a report shows as a sound, a text or a picture: a plugin in a single file."""

import io
import math
import struct
import wave
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Normal

from fusion_engine import (
    Decoder,
    DistributionLikelihood,
    Encoder,
    Features,
    Likelihood,
    Media,
    Modality,
    Registry,
    Signal,
    Widths,
    hookimpl,
)

RATE, SECONDS = 8000, 0.25
WORDS = ("low", "middling", "high", "<script>alert('x')</script> & \"very\" high")


class Number(Modality):
    """Two numbers, data [b 2]; the first one is what is shown."""

    encoder: ClassVar[str] = "encoder/toy_media.linear"
    decoder: ClassVar[str] = "decoder/toy_media.linear"

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn nothing."""
        return {}

    def prepare(self, raw: Any) -> Signal:
        """Make a tensor."""
        return Signal(torch.tensor([float(raw), -float(raw)]))

    def restore(self, signal: Signal) -> list[Any]:
        """Take the first number."""
        numbers: list[Any] = signal.data[:, 0].tolist()
        return numbers

    def example(self, b: int) -> Signal:
        """Draw numbers."""
        return Signal(torch.randn(b, 2, generator=torch.Generator().manual_seed(b)))

    def render(self, signal: Signal) -> list[Media]:
        """Show each number."""
        return [self.show(number) for number in self.restore(signal)]

    def show(self, number: float) -> Media:
        """Write it down."""
        return Media("text/plain", f"{number:.2f}".encode())


class Tone(Number):
    """A number as a tone of that pitch, with a picture of it."""

    def show(self, number: float) -> Media:
        """Write a quarter of a second of WAV, and draw the pitch."""
        pitch = 440 * 2 ** min(2.0, max(-2.0, number))
        n = round(RATE * SECONDS)
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(RATE)
            out.writeframes(
                b"".join(struct.pack("<h", round(9000 * math.sin(2 * math.pi * pitch * t / RATE))) for t in range(n))
            )
        return Media("audio/wav", file.getvalue(), picture(number))


class Word(Number):
    """A number as one of four words, one of which is malicious."""

    def show(self, number: float) -> Media:
        """Name it."""
        return Media("text/plain", WORDS[sum(number > limit for limit in (-0.7, 0.0, 0.7))].encode())


class Patch(Number):
    """A number as a small picture."""

    def show(self, number: float) -> Media:
        """Draw a bar of that height."""
        return Media("image/png", picture(number))


def picture(number: float) -> bytes:
    """Draw a bright row at a height, 24 x 16."""
    image = Image.new("L", (24, 16), 30)
    row = round(min(15.0, max(0.0, 7.5 - 3.5 * number)))
    for x in range(24):
        image.putpixel((x, row), 240)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


class LinearEncoder(Encoder):
    """pooled = W x."""

    def __init__(self, modality: Number) -> None:
        super().__init__(modality, 8)
        self.linear = nn.Linear(2, 8)

    def encode(self, x: Float[Tensor, "b 2"], signal: Signal) -> Features:
        """Encode."""
        return Features.of_pooled(self.linear(x))


class LinearDecoder(Decoder):
    """p(x | z) = Normal(W z, 0.3)."""

    def __init__(self, latent: int, modality: Number, conditions: Mapping[str, Widths] | None = None) -> None:
        super().__init__(latent, modality, conditions)
        self.linear = nn.Linear(self.inputs_width, 2)

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode."""
        loc = self.linear(self.joined(z, conditions))
        return DistributionLikelihood(Normal(loc, torch.full_like(loc, 0.3), validate_args=False), z.ndim - 2)


@hookimpl
def register_components(registry: Registry) -> None:
    """Register everything."""
    registry.modality("number", Number)
    registry.modality("tone", Tone)
    registry.modality("word", Word)
    registry.modality("patch", Patch)
    registry.encoder("linear", LinearEncoder)
    registry.decoder("linear", LinearDecoder)
