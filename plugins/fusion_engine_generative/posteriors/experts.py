"""Gaussian experts and their products: Hinton 2002; as posteriors, Wu and Goodman 2018, arXiv:1802.05335.

Axes: b batch, z latent, m inputs, e experts (the inputs and, last, the prior), s subsets of experts.
"""

from collections.abc import Mapping, Sequence

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributions import Normal

from fusion_engine import Widths

BOUND = 10.0
"""Log-variances stay in (-BOUND, BOUND): scales between 0.0067 and 148."""


def normal_of(raw: Float[Tensor, "*m b d"]) -> Normal:
    """Read the output of a Linear, d = 2 z, as a Normal [*m b z] of log-variance BOUND * tanh(x / BOUND)."""
    loc, logvar = raw.chunk(2, -1)
    return Normal(loc, (0.5 * BOUND * torch.tanh(logvar / BOUND)).exp(), validate_args=False)


def where(rows: Bool[Tensor, "*m b"], normal: Normal, otherwise: Normal) -> Normal:
    """Take one Normal [*m b z] where ``rows`` is True and the other elsewhere, with no gradient to the first there."""
    rows = rows[..., None]
    loc = torch.where(rows, normal.loc, otherwise.loc)
    return Normal(loc, torch.where(rows, normal.scale, otherwise.scale), validate_args=False)


class GaussianExperts(nn.Module):
    """One Normal an input, by one Linear from its pooled vector; the prior where it is absent.

    Args:
        inputs: the widths of each input.
        latent: the width of z.
    """

    def __init__(self, inputs: Mapping[str, Widths], latent: int) -> None:
        super().__init__()
        self.names = tuple(inputs)
        self.linears = nn.ModuleList(nn.Linear(w.pooled, 2 * latent) for w in inputs.values())

    def forward(self, vectors: Sequence[Tensor], present: Bool[Tensor, "b m"], prior: Normal) -> Normal:
        """Return all experts as one Normal [m b z]; vectors [b d_i] are zero where absent."""
        raw = torch.stack([linear(x) for linear, x in zip(self.linears, vectors, strict=True)])
        return where(rearrange(present, "b m -> m b"), normal_of(raw.to(prior.loc.dtype)), prior)

    def named(self, experts: Normal) -> dict[str, Normal]:
        """Take the experts apart, by input."""
        pairs = zip(experts.loc, experts.scale, strict=True)
        return {
            name: Normal(loc, scale, validate_args=False) for name, (loc, scale) in zip(self.names, pairs, strict=True)
        }


def products(
    subsets: Float[Tensor, "s e"],
    held: Bool[Tensor, "s b"],
    experts: Normal,
    present: Bool[Tensor, "b m"],
    prior: Normal,
) -> Normal:
    """Multiply the densities of each subset of experts and normalise: one Normal [s b z], in one einsum.

        precision_s = sum_(e in s) 1 / scale_e^2,  loc_s = sum_(e in s) loc_e / scale_e^2 / precision_s

    An expert whose input is absent is left out. The prior stands in for a product that a row does not hold.

    Args:
        subsets: 1 where expert e belongs to subset s; the last column is the prior.
        held: which products each row has; only those with at least one expert.
        experts: [m b z].
        present: which inputs each row has.
        prior: [b z].
    """
    with torch.autocast(experts.loc.device.type, enabled=False):
        precision = experts.scale.pow(-2).masked_fill(~rearrange(present, "b m -> m b 1"), 0.0)
        precision = torch.cat([precision, prior.scale.pow(-2)[None]])
        moment = precision * torch.cat([experts.loc, prior.loc[None]])
        total, moment = einsum(subsets, torch.stack([precision, moment]), "s e, t e b z -> t s b z")
    total = total.masked_fill(~held[..., None], 1.0)
    return where(held, Normal(moment / total, total.rsqrt(), validate_args=False), prior)


def product(experts: Normal, held: Bool[Tensor, "b m"], prior: Normal) -> Normal:
    """Multiply each row's held experts [m b z] with the prior [b z] and normalise: one Normal [b z]."""
    everything = prior.loc.new_ones(1, held.shape[1] + 1)
    only = products(everything, held.any(1)[None], experts, held, prior)
    return Normal(only.loc[0], only.scale[0], validate_args=False)


def weighted_product(experts: Normal, exponents: Float[Tensor, "e b z"]) -> Normal:
    """Multiply powers of densities and normalise: one Normal [b z].

        prod_e N(z; loc_e, scale_e)^a_e
        precision = sum_e a_e / scale_e^2,  loc = sum_e a_e loc_e / scale_e^2 / precision

    Args:
        experts: [e b z], the prior among them.
        exponents: a_e, not negative; some are positive in each row and latent element.
    """
    with torch.autocast(experts.loc.device.type, enabled=False):
        precision = exponents * experts.scale.pow(-2)
        total = precision.sum(0)
        return Normal((precision * experts.loc).sum(0) / total, total.rsqrt(), validate_args=False)


def with_prior(experts: Normal, prior: Normal) -> Normal:
    """Put the prior [b z] behind the experts [m b z]: one Normal [e b z]."""
    loc, scale = torch.cat([experts.loc, prior.loc[None]]), torch.cat([experts.scale, prior.scale[None]])
    return Normal(loc, scale, validate_args=False)


def single_shares(present: Bool[Tensor, "b m"], like: Tensor) -> Float[Tensor, "m b"]:
    """Weigh the inputs that a row has equally; where it has nothing, and each stands for the prior, all of them."""
    held = present | ~present.any(1, keepdim=True)
    return shares(rearrange(held, "b m -> m b"), like)


def shares(held: Bool[Tensor, "s b"], like: Tensor) -> Float[Tensor, "s b"]:
    """Weigh what each row holds equally: they sum to one over s."""
    return held.to(like.dtype) / held.sum(0)
