"""A plugin in one file: vectors, and perceptrons that encode and decode them. Small, to check training by hand."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import Field
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
    Noise,
    Registry,
    Signal,
    Widths,
    hookimpl,
    over_samples,
    require,
)

Width = Annotated[int, Field(ge=1)]


class Vector(Modality):
    """Lists of d numbers; d is learned from the data."""

    encoder = "encoder/plain.mlp"
    decoder = "decoder/plain.mlp"
    augmentations = ("stretch",)

    def __init__(self, *, width: Width | None = None) -> None:
        self.width = width or 2

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        widths = sorted({len(raw) for raw in samples})
        require(len(widths) == 1, "vectors of several widths", expected="one width", actual=str(widths))
        return {"width": widths[0]}

    def prepare(self, raw: Any) -> Signal:
        return Signal(torch.as_tensor(raw, dtype=torch.get_default_dtype()))

    def restore(self, signal: Signal) -> list[Any]:
        return [row.tolist() for row in signal.data]

    def example(self, b: int) -> Signal:
        return Signal(torch.randn(b, self.width, generator=torch.Generator().manual_seed(0)))

    def augment(self, signal: Signal, name: str, noise: Noise) -> Signal:
        return Signal(signal.data * (0.5 + noise.uniform(self.width, like=signal.data)))

    def render(self, signal: Signal) -> list[Media]:
        return [Media("text/plain", str(row).encode()) for row in self.restore(signal)]


class Perceptron(Encoder):
    """One hidden layer, with dropout or batch norm behind it where that is asked for."""

    def __init__(
        self,
        modality: Vector,
        *,
        width: Width = 6,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        norm: bool = False,
    ) -> None:
        super().__init__(modality, width)
        inner = [nn.BatchNorm1d(width)] if norm else []
        inner += [nn.Dropout(dropout)] if dropout else []
        self.net = nn.Sequential(nn.Linear(modality.width, width), *inner, nn.Tanh(), nn.Linear(width, width))

    def encode(self, x: Tensor, signal: Signal) -> Features:
        return Features.of_pooled(self.net(x))


class Generator(Decoder):
    """N(mlp(z), 1/2)."""

    def __init__(
        self, latent: int, modality: Vector, conditions: Mapping[str, Widths] | None = None, *, width: Width = 6
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.net = nn.Sequential(nn.Linear(self.inputs_width, width), nn.Tanh(), nn.Linear(width, modality.width))

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        mean = over_samples(self.net, self.joined(z, conditions))
        return DistributionLikelihood(Normal(mean, 0.5, validate_args=False), z.ndim - 2)


@hookimpl
def register_components(registry: Registry) -> None:
    registry.modality("vector", Vector)
    registry.encoder("mlp", Perceptron)
    registry.decoder("mlp", Generator)
