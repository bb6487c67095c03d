"""VampPrior, the variational mixture of posteriors: Tomczak and Welling 2018, arXiv:1705.07120."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily

from fusion_engine import Features, Infer, Noise, Posterior, PosteriorPrior, Widths, map_distribution


class VampPrior(PosteriorPrior):
    """p(z) = 1/c sum_i q(z | u_i): the mixture of what the posterior infers at c learned pseudo-inputs u_i.

    The pseudo-inputs stand in feature space, not in data space as in the paper: each is one pooled vector an input of
    the posterior, everything present, without tokens. They pass through the posterior's own network, which therefore
    receives the gradient of p as well as that of q. Where the posterior is itself a mixture over k, so is each of its
    c values, with its weights. A row with nothing present draws z from it.
    Axes: b batch, z latent, c pseudo-inputs, k components of the posterior.

    Args:
        inputs: the widths of the posterior's inputs.
        latent: the width of z.
        components: c.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        latent: Annotated[int, Field(ge=1)] = 32,
        components: Annotated[int, Field(ge=1)] = 64,
    ) -> None:
        super().__init__(inputs, latent)
        self.pseudo = nn.ParameterList(torch.randn(components, w.pooled) for w in inputs.values())

    def of(self, infer: Infer, b: int) -> Posterior:
        """Return the prior for b rows: batch shape [b], event shape [z], z its mean."""
        everything = torch.ones(len(self.pseudo[0]), len(self.inputs), dtype=torch.bool, device=self.pseudo[0].device)
        inferred = infer(self._features(), everything)
        weights = inferred.weights.flatten() / len(everything)
        shape = inferred.z.shape
        each = map_distribution(inferred.distribution, lambda x: x.expand(shape).reshape(-1, self.latent))
        mixture = _mixture(weights, each, b)

        def sample(noise: Noise) -> Float[Tensor, "b z"]:
            chosen = _choose(weights, noise.at("component"))
            one = map_distribution(each, lambda x: x[chosen])
            return Posterior.of(one, one).sampled(noise.at("point")).z

        return Posterior(mixture, mixture, mixture.mean, weights.new_ones(b), sampler=sample)

    def _features(self) -> dict[str, Features]:
        """Read the pseudo-inputs as features [c ...] without a token."""
        found = {}
        for (name, widths), pooled in zip(self.inputs.items(), self.pseudo, strict=True):
            blank = Features.absent(len(pooled), widths, pooled)
            found[name] = Features(blank.tokens, pooled, blank.mask)
        return found


def _mixture(weights: Float[Tensor, " c"], each: Distribution, b: int) -> Distribution:
    """Mix components for b rows; one of weight zero counts nothing, and sends no gradient."""
    logits = torch.where(weights > 0, weights, 1.0).log().masked_fill(weights <= 0, -torch.inf)
    shares, joint = Categorical(logits=logits, validate_args=False), Independent(each, 1, validate_args=False)
    return MixtureSameFamily(shares, joint, validate_args=False).expand(torch.Size([b]))  # type: ignore[no-untyped-call,no-any-return]


def _choose(weights: Float[Tensor, " c"], noise: Noise) -> Int[Tensor, " b"]:
    cumulated = weights.detach().cumsum(0)
    u = noise.uniform(1, like=cumulated)
    return (cumulated <= u * cumulated[-1]).sum(-1)
