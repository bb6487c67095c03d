"""An encoder and a decoder of numbers, one hidden layer each."""

from collections.abc import Mapping
from typing import Annotated

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
    Signal,
    Widths,
    over_samples,
)


class NumbersEncoder(Encoder):
    """Encode all channels of a sample together.

        pooled = linear(lrelu(linear(x)))

    x [b c] -> pooled [b width], which is also the only token.

    Args:
        modality: the numbers.
        width: of the features.
        hidden: the width of the hidden layer.
    """

    def __init__(
        self,
        modality: NumberModality,
        *,
        width: Annotated[int, Field(ge=1)] = 32,
        hidden: Annotated[int, Field(ge=1)] = 64,
    ) -> None:
        super().__init__(modality, width)
        self.body = nn.Sequential(nn.Linear(modality.channels, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, width))

    def encode(self, x: Float[Tensor, "b c"], signal: Signal) -> Features:
        """Encode."""
        return Features.of_pooled(self.body(x))


class NumbersDecoder(Decoder):
    """Turn z into a normal distribution a channel.

        p(x | z) = Normal(linear(lrelu(linear(z))), scale)

    z [*k b z] -> numbers [*k b c].

    Args:
        latent: the width of z.
        modality: the numbers.
        conditions: whose pooled vectors join z.
        width: of the hidden layer.
        scale: the deviation, in units of the prepared data.
    """

    def __init__(
        self,
        latent: int,
        modality: NumberModality,
        conditions: Mapping[str, Widths] | None = None,
        *,
        width: Annotated[int, Field(ge=1)] = 64,
        scale: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.scale = scale
        self.body = nn.Sequential(
            nn.Linear(self.inputs_width, width), nn.LeakyReLU(0.2), nn.Linear(width, modality.channels)
        )

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode into a normal distribution a channel."""
        mean = over_samples(self.body, self.joined(z, conditions))
        return DistributionLikelihood(Normal(mean, self.scale, validate_args=False), sample_axes=z.ndim - 2)
