"""Token ids [... n] and their relaxation, soft one-hots [... n v], alike."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import embedding, one_hot


def in_full(x: Tensor) -> Tensor:
    """Return half-precision numbers in single precision, for a softmax over many tokens."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def as_ids(data: Tensor) -> Int[Tensor, "..."]:
    """Return ids as they are, and of soft one-hots the likeliest."""
    return data.detach().argmax(-1) if data.is_floating_point() else data


def valid_tokens(ids: Int[Tensor, "*b n"], end: int) -> Bool[Tensor, "*b n"]:
    """Tell which tokens are of the text: all up to and including the first end."""
    ends = ids == end
    return ends.cumsum(-1) - ends.long() == 0


def embed_tokens(data: Tensor, weight: Float[Tensor, "v d"]) -> Float[Tensor, "... d"]:
    """Look ids up, or mix the vectors of soft one-hots: weight[x] or x @ weight."""
    return data.to(weight.dtype) @ weight if data.is_floating_point() else embedding(data, weight)


def gumbel(uniform: Float[Tensor, "*b v"]) -> Float[Tensor, "*b v"]:
    """Turn uniform numbers into Gumbel ones: -log(-log(u))."""
    return -torch.log(-torch.log(uniform.clamp(min=torch.finfo(uniform.dtype).tiny)))


def straight_through(
    logits: Float[Tensor, "*b v"], gumbel: Float[Tensor, "*b v"], temperature: float
) -> Float[Tensor, "*b v"]:
    """Draw a one-hot whose gradient is that of a Gumbel softmax: Jang et al., ICLR 2017, arXiv:1611.01144.

    hard = one_hot(argmax(logits + g)),  soft = softmax((logits + g) / temperature)
    """
    soft = ((logits + gumbel) / temperature).softmax(-1)
    hard = one_hot(soft.argmax(-1), soft.shape[-1]).to(soft)
    return hard + (soft - soft.detach())
