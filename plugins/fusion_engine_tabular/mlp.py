"""Multilayer perceptrons for numbers: the networks of toy mixtures (Lin et al., NeurIPS 2018, arXiv:1712.04086)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal

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
    NumberModality,
    Samples,
    Signal,
    Widths,
    over_samples,
)

Layers = Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=1)]
Activation = Literal["relu", "leaky_relu", "gelu", "silu"]
ACTIVATIONS: dict[Activation, nn.Module] = {
    "relu": nn.ReLU(),
    "leaky_relu": nn.LeakyReLU(0.2),
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
}


def _layers(inputs: int, widths: Sequence[int], activation: Activation) -> list[nn.Module]:
    act = ACTIVATIONS[activation]
    return [layer for a, b in pairwise([inputs, *widths]) for layer in (nn.Linear(a, b), act)]


class MLPEncoder(Encoder):
    """Encode all channels of a sample together, in several layers.

        pooled = act(linear(... act(linear(x))))

    With a score head behind it, the discriminator of toy mixtures. x [b c] -> pooled [b widths[-1]], which is also the
    only token.

    Args:
        modality: the numbers.
        widths: of the layers, in order.
        activation: behind each layer.
    """

    def __init__(
        self, modality: NumberModality, *, widths: Layers = (128, 128, 128), activation: Activation = "relu"
    ) -> None:
        super().__init__(modality, widths[-1])
        self.body = nn.Sequential(*_layers(modality.channels, widths, activation))

    def encode(self, x: Float[Tensor, "b c"], signal: Signal) -> Features:
        """Encode."""
        return Features.of_pooled(self.body(x))


class MLPDecoder(Decoder):
    """Turn z into a normal distribution a channel, in several layers.

        p(x | z) = Normal(f(z), scale),  f(z) = linear(act(linear(... act(linear(z)))))

    z [*k b z] -> numbers [*k b c].

    Args:
        latent: the width of z.
        modality: the numbers.
        conditions: whose pooled vectors join z.
        widths: of the hidden layers, in order.
        activation: behind each hidden layer.
        scale: the deviation, in units of the prepared data.
    """

    def __init__(
        self,
        latent: int,
        modality: NumberModality,
        conditions: Mapping[str, Widths] | None = None,
        *,
        widths: Layers = (128, 128, 128),
        activation: Activation = "relu",
        scale: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.scale = scale
        last = nn.Linear(widths[-1], modality.channels)
        self.body = nn.Sequential(*_layers(self.inputs_width, widths, activation), last)

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode into a normal distribution a channel."""
        mean = over_samples(self.body, self.joined(z, conditions))
        return DistributionLikelihood(Normal(mean, self.scale, validate_args=False), sample_axes=z.ndim - 2)


class MLPGenerator(Decoder):
    """Turn z into numbers: a generator that has samples, and no density.

        x = linear(act(linear(... act(linear(z)))))

    z [*k b z] -> numbers [*k b c].

    Args:
        latent: the width of z.
        modality: the numbers.
        conditions: whose pooled vectors join z.
        widths: of the hidden layers, in order.
        activation: behind each hidden layer.
    """

    density = False

    def __init__(
        self,
        latent: int,
        modality: NumberModality,
        conditions: Mapping[str, Widths] | None = None,
        *,
        widths: Layers = (128, 128, 128),
        activation: Activation = "relu",
    ) -> None:
        super().__init__(latent, modality, conditions)
        last = nn.Linear(widths[-1], modality.channels)
        self.body = nn.Sequential(*_layers(self.inputs_width, widths, activation), last)

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Generate."""
        return Samples(Signal(over_samples(self.body, self.joined(z, conditions))))
