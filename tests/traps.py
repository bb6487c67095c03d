"""Components that lie in wait, a plugin in a single file.

Data that must not be read, a generator without a density, an encoder with tied weights.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from fusion_engine import (
    Dataset,
    Decoder,
    Encoder,
    Features,
    ImageModality,
    Likelihood,
    Modality,
    Registry,
    Samples,
    Signal,
    hookimpl,
)


class Never(Dataset):
    """Data that nobody may look at."""

    @property
    def train(self) -> Sequence[Mapping[str, Any]]:
        """Raise."""
        raise AssertionError("the data was read")

    validation = test = train


class Dreams(Decoder):
    """Images without a density."""

    density = False

    def __init__(self, latent: int, modality: ImageModality, conditions: Mapping[str, Any] | None = None) -> None:
        super().__init__(latent, modality, conditions)
        self.linear = nn.Linear(latent, modality.size)
        self.shape = modality.shape

    def forward(self, z: Tensor, conditions: Mapping[str, Features]) -> Likelihood:
        """Return one sample."""
        return Samples(Signal(self.linear(z).unflatten(-1, self.shape)))


class Tied(Encoder):
    """pooled = second(tanh(first(x))), where both hold the same square matrix."""

    def __init__(self, modality: Modality) -> None:
        super().__init__(modality, modality.size)
        self.first, self.second = (nn.Linear(modality.size, modality.size) for _ in range(2))
        self.second.weight = self.first.weight

    def encode(self, x: Tensor, signal: Signal) -> Features:
        """Encode vectors."""
        return Features.of_pooled(self.second(self.first(x).tanh()))


@hookimpl
def register_components(registry: Registry) -> None:
    """Register all."""
    registry.dataset("never", Never)
    registry.decoder("dreams", Dreams)
    registry.encoder("tied", Tied)
