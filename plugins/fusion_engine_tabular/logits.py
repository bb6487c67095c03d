"""A categorical distribution over classes from a latent."""

from collections.abc import Mapping
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Categorical

from fusion_engine import CategoryModality, Decoder, DistributionLikelihood, Features, Likelihood, Widths, over_samples


class LogitsDecoder(Decoder):
    """Turn z into the logits of a categorical distribution by one hidden layer.

        p(x | z) = Categorical(linear(lrelu(linear(z))))

    z [*k b z] -> classes, batch shape [*k b].

    Args:
        latent: the width of z.
        modality: the categories.
        conditions: whose pooled vectors join z.
        width: of the hidden layer.
    """

    def __init__(
        self,
        latent: int,
        modality: CategoryModality,
        conditions: Mapping[str, Widths] | None = None,
        *,
        width: Annotated[int, Field(ge=1)] = 64,
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.body = nn.Sequential(
            nn.Linear(self.inputs_width, width), nn.LeakyReLU(0.2), nn.Linear(width, len(modality.classes))
        )

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode into a categorical distribution a row."""
        logits = over_samples(self.body, self.joined(z, conditions))
        return DistributionLikelihood(Categorical(logits=logits, validate_args=False), sample_axes=z.ndim - 2)
