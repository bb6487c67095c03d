"""Affine couplings, RealNVP: Dinh et al. 2017, arXiv:1605.08803; the density that ``flow`` and ``fitted_flow`` share.

Axes: b batch, z latent, k samples, l layers, h hidden.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint
from torch.nn.functional import silu

BOUND = 1.0
"""Each layer's log-scales stay in (-BOUND, BOUND)."""


def masks(latent: int, layers: int) -> Bool[Tensor, "l z"]:
    """Say which numbers each layer keeps: those whose index lacks a bit, then those that have it; then by the next bit.

    Any two indices differ in a bit, so that after one round every number has been conditioned on every other.
    """
    bits = max(1, (latent - 1).bit_length())
    index = torch.arange(latent)
    rows = [((index >> (layer // 2 % bits)) & 1) == layer % 2 for layer in range(layers)]
    return torch.stack(rows)


def shapes(latent: int, layers: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights of ``Couplings``, by name."""
    return {
        "first": (layers, hidden, latent),
        "offset": (layers, hidden),
        "second": (layers, hidden, hidden),
        "shift": (layers, hidden),
        "last": (layers, 2 * latent, hidden),
        "bias": (layers, 2 * latent),
    }


def initial(latent: int, layers: int, hidden: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """Draw weights: every layer starts as the identity, for its last Linear is zero."""
    found = {name: torch.zeros(shape) for name, shape in shapes(latent, layers, hidden).items()}
    for name in ("first", "second"):
        bound = found[name].shape[-1] ** -0.5
        found[name].uniform_(-bound, bound, generator=generator)
    return found


@dataclass(frozen=True)
class Couplings:
    """An invertible map u -> z: layers that scale and shift half of the numbers by a function of the other half.

        s, t = split(last silu(second silu(first (keep x) + offset) + shift) + bias)
        y = keep x + (1 - keep) (x exp(s') + t),  s' = BOUND tanh(s / BOUND),  log |det| = sum (1 - keep) s'

    Args:
        keep: what each layer leaves as it is, as ``masks`` makes it.
    """

    keep: Bool[Tensor, "l z"]
    first: Float[Tensor, "l h z"]
    offset: Float[Tensor, "l h"]
    second: Float[Tensor, "l h h"]
    shift: Float[Tensor, "l h"]
    last: Float[Tensor, "l d h"]
    bias: Float[Tensor, "l d"]

    def _affine(self, layer: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-scale and translation [*k b z], zero for the numbers that are kept."""
        keep = self.keep[layer]
        hidden = silu(torch.where(keep, x, 0.0) @ self.first[layer].mT + self.offset[layer])
        hidden = silu(hidden @ self.second[layer].mT + self.shift[layer])
        s, t = (hidden @ self.last[layer].mT + self.bias[layer]).chunk(2, -1)
        return torch.where(keep, 0.0, BOUND * torch.tanh(s / BOUND)), torch.where(keep, 0.0, t)

    def forward(self, u: Float[Tensor, "*k b z"]) -> Float[Tensor, "*k b z"]:
        """Map u to z."""
        for layer in range(len(self.keep)):
            s, t = self._affine(layer, u)
            u = u * s.exp() + t
        return u

    def inverse(self, z: Float[Tensor, "*k b z"]) -> tuple[Float[Tensor, "*k b z"], Float[Tensor, "*k b"]]:
        """Map z to u, with log |det du/dz|."""
        log_det = z.new_zeros(z.shape[:-1])
        for layer in reversed(range(len(self.keep))):
            s, t = self._affine(layer, z)
            z, log_det = (z - t) * (-s).exp(), log_det - s.sum(-1)
        return z, log_det


class Flow(Distribution):
    """p(z) of z = loc + scale f(u), u ~ N(0, I): batch shape [b], event shape [z].

    Args:
        b: rows.
        couplings: f.
        loc: [z].
        scale: lower triangular [z z].
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}

    def __init__(
        self, b: int, couplings: Couplings, loc: Float[Tensor, " z"], scale: Float[Tensor, "z z"] | None = None
    ) -> None:
        self.couplings, self.loc, self.scale = couplings, loc, scale
        super().__init__(torch.Size([b]), loc.shape, validate_args=False)

    def log_prob(self, value: Float[Tensor, "*k b z"]) -> Float[Tensor, "*k b"]:
        """Return the density of z by the change of variables."""
        with torch.autocast(value.device.type, enabled=False):
            centred, log_det = value - self.loc, value.new_zeros(())
            if self.scale is not None:
                flat = centred.reshape(-1, centred.shape[-1])
                flat = torch.linalg.solve_triangular(self.scale, flat.mT, upper=False).mT
                centred, log_det = flat.reshape(centred.shape), -self.scale.diagonal().log().sum()
            u, inner = self.couplings.inverse(centred)
            return log_det + inner - 0.5 * (u.square() + math.log(2 * math.pi)).sum(-1)

    def at(self, u: Float[Tensor, "*k b z"]) -> Float[Tensor, "*k b z"]:
        """Return the z that u stands for."""
        with torch.autocast(u.device.type, enabled=False):
            z = self.couplings.forward(u)
            return self.loc + (z if self.scale is None else einsum(self.scale, z, "i j, ... j -> ... i"))
