"""An encoder and a decoder of sets of tags."""

from collections.abc import Mapping
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Bernoulli

from fusion_engine import (
    Decoder,
    DistributionLikelihood,
    Encoder,
    Features,
    Likelihood,
    Signal,
    TagsModality,
    Widths,
    over_samples,
)


class TagsEncoder(Encoder):
    """Add up one learned vector a tag, then mix them.

        pooled = linear(lrelu(bias + x @ weight))

    x [b v], 0 or 1 or between -> pooled [b width], which is also the only token.

    Args:
        modality: the tags.
        width: of the features.
        hidden: the width of a tag's vector.
    """

    def __init__(
        self,
        modality: TagsModality,
        *,
        width: Annotated[int, Field(ge=1)] = 32,
        hidden: Annotated[int, Field(ge=1)] = 64,
    ) -> None:
        super().__init__(modality, width)
        self.body = nn.Sequential(nn.Linear(len(modality.classes), hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, width))

    def encode(self, x: Float[Tensor, "b v"], signal: Signal) -> Features:
        """Encode."""
        return Features.of_pooled(self.body(x))


class TagsDecoder(Decoder):
    """Turn z into the probability of each tag.

        p(x | z) = prod_j Bernoulli(x_j; logits_j),  logits = linear(lrelu(linear(z)))

    z [*k b z] -> tags [*k b v]; given z they are independent.

    Args:
        latent: the width of z.
        modality: the tags.
        conditions: whose pooled vectors join z.
        width: of the hidden layer.
    """

    def __init__(
        self,
        latent: int,
        modality: TagsModality,
        conditions: Mapping[str, Widths] | None = None,
        *,
        width: Annotated[int, Field(ge=1)] = 64,
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.body = nn.Sequential(
            nn.Linear(self.inputs_width, width), nn.LeakyReLU(0.2), nn.Linear(width, len(modality.classes))
        )

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode into a Bernoulli distribution a tag."""
        logits = over_samples(self.body, self.joined(z, conditions))
        return DistributionLikelihood(Bernoulli(logits=logits, validate_args=False), sample_axes=z.ndim - 2)
