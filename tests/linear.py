"""Linear toys, whose conditional means are known in closed form: a plugin in a single file.

x = W z + scale e,   z ~ N(0, I),   E[x_h | x_k] = W_h (scale^2 I + W_k^T W_k)^-1 W_k^T x_k
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar

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
    NumberModality,
    Registry,
    Signal,
    Widths,
    hookimpl,
)


class IdentityEncoder(Encoder):
    """pooled = x."""

    unused_parameters: ClassVar[Mapping[str, str]] = {}

    def __init__(self, modality: NumberModality) -> None:
        super().__init__(modality, modality.channels)

    def encode(self, x: Float[Tensor, "b c"], signal: Signal) -> Features:
        """Hand on."""
        return Features.of_pooled(x)


class LinearDecoder(Decoder):
    """p(x | z) = Normal(W z, scale)."""

    def __init__(
        self,
        latent: int,
        modality: NumberModality,
        conditions: Mapping[str, Widths] | None = None,
        *,
        scale: Annotated[float, Field(gt=0)] = 0.5,
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.linear, self.scale = nn.Linear(self.inputs_width, modality.channels, bias=False), scale

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode."""
        loc = self.linear(self.joined(z, conditions))
        return DistributionLikelihood(Normal(loc, torch.full_like(loc, self.scale), validate_args=False), z.ndim - 2)


@hookimpl
def register_components(registry: Registry) -> None:
    """Register everything."""
    registry.encoder("identity", IdentityEncoder)
    registry.decoder("linear", LinearDecoder)
