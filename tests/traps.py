"""Components that lie in wait, a plugin in a single file: data that must not be read, a generator without a density."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from fusion_engine import Dataset, Decoder, Features, ImageModality, Likelihood, Registry, Samples, Signal, hookimpl


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

    def forward(self, z: Any, conditions: Mapping[str, Features]) -> Likelihood:
        """Return one sample."""
        return Samples(Signal(self.linear(z).unflatten(-1, self.shape)))


@hookimpl
def register_components(registry: Registry) -> None:
    """Register both."""
    registry.dataset("never", Never)
    registry.decoder("dreams", Dreams)
