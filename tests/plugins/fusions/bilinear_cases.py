"""Inputs of the tests of the bilinear family: three of different widths, in float64, and rows that miss them."""

from math import copysign

import torch

from fusion_engine import Features, Widths

WIDTHS = {"image": Widths(5, 3), "keys": Widths(4, 2), "text": Widths(6, 4)}
PRESENT = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 1], [0, 0, 0]]).bool()


def vectors(seed=0):
    """One vector [b d] an input, of six rows."""
    torch.manual_seed(seed)
    return [torch.randn(len(PRESENT), w.pooled, dtype=torch.float64) for w in WIDTHS.values()]


def named(xs):
    return {name: Features.of_pooled(x) for name, x in zip(WIDTHS, xs, strict=False)}


def make(kind, m=3, **config):
    """A fusion of the first m inputs whose weights, biases too, are all off their start."""
    torch.manual_seed(1)
    module = kind(dict(list(WIDTHS.items())[:m]), **config).double()
    for p in module.parameters():
        torch.nn.init.normal_(p, std=p[0].numel() ** -0.5 if p.ndim > 1 else 0.5)
    return module


def fuse(module, xs=None, present=PRESENT):
    m = len(module.inputs)
    return module(named((vectors() if xs is None else xs)[:m]), present[:, :m])


def there(row, present=PRESENT):
    """Which inputs a row has."""
    return [i for i in range(present.shape[1]) if present[row, i]]


def affine(linear, x):
    return linear.weight @ x + linear.bias


def root_and_norm(x):
    """Signed square root and L2 normalisation of one vector, number by number, with what keeps them smooth at zero."""
    roots = [copysign(1.0, v) * abs(v) / (v * v + 1e-6) ** 0.25 for v in x.tolist()]
    return torch.tensor(roots, dtype=x.dtype) / (sum(v * v for v in roots) + 1e-6) ** 0.5


def extended(x, present):
    """[x, 1], or [0, 1] where it is absent."""
    return torch.cat([x if present else torch.zeros_like(x), x.new_ones(1)])
