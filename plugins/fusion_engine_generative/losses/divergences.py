"""What losses on the experts of posteriors share: which posteriors they read, and divergences of Normals.

Axes: b batch, z latent, m inputs, e experts (the inputs and, last, the prior), k components.
"""

from collections.abc import Iterable
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from fusion_engine import BuildError, Graph, Posterior, Run, nodes_of


class Experts:
    """The posteriors of a graph that are made of experts, one Normal an input.

    Args:
        graph: to choose from.
        nodes: globs; without any, all posteriors that have experts.
        loss: for messages.

    Raises:
        BuildError: the graph has no posterior.
    """

    def __init__(self, graph: Graph, nodes: Iterable[str] | None, loss: str) -> None:
        self.named, self.loss = bool(nodes), loss
        self.posteriors = nodes_of(graph, "posterior", nodes or ["*"], "'nodes'")

    def of(self, run: Run) -> list[tuple[Posterior, Normal, Bool[Tensor, "b m"]]]:
        """Return each posterior with its experts, one Normal [m b z], and which inputs are present.

        Raises:
            BuildError: a posterior that was named has no Normal experts, or none has.
        """
        values = {n: cast(Posterior, run[n]) for n in self.posteriors}
        found = {n: p for n, p in values.items() if p.experts and _normal(p)}
        lacking = sorted(set(values) - set(found))
        if not found or (self.named and lacking):
            raise BuildError(
                f"loss/{self.loss} compares Normal experts, and {', '.join(lacking)} has none",
                fix="use posterior/moe, poe, jmvae or another that is made of experts, or choose it with 'nodes'",
            )
        return [
            (p, stacked(list(p.experts.values())), torch.stack([run.present(i) for i in p.experts], 1))
            for p in found.values()
        ]


def _normal(posterior: Posterior) -> bool:
    every = [posterior.distribution, *posterior.experts.values()]
    return all(isinstance(d, Normal) for d in every)


def stacked(normals: Iterable[object]) -> Normal:
    """Stack Normals [b z] to one [m b z]."""
    every = cast(list[Normal], list(normals))
    loc, scale = torch.stack([d.loc for d in every]), torch.stack([d.scale for d in every])
    return Normal(loc, scale, validate_args=False)


def divergence(q: Normal, p: Normal, shares: Float[Tensor, "*e b"]) -> Float[Tensor, " b"]:
    """Return sum_e shares[e] KL(q_e || p_e), summed over z; what weighs nothing adds nothing, whatever it is."""
    kl = kl_divergence(q, p).sum(-1)
    weighed = torch.where(shares > 0, shares * kl, 0.0)
    return weighed.flatten(0, -2).sum(0) if weighed.ndim > 1 else weighed


def to_experts(posterior: Posterior, experts: Normal, shares: Float[Tensor, "m b"]) -> Float[Tensor, " b"]:
    """Return sum_i shares[i] sum_k weights[k] KL(q_k(z | x) || q(z | x_i))."""
    q = cast(Normal, posterior.distribution)
    lead = q.loc.ndim - 2
    apart = (slice(None), *[None] * lead)  # [m 1 ... b z] against [*k b z]
    against = Normal(experts.loc[apart], experts.scale[apart], validate_args=False)
    return divergence(q, against, shares[apart] * posterior.weights)
