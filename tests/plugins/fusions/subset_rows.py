"""Rows for tests of pooled fusions: every subset of the inputs is one row, and what a row lacks holds NaN."""

import torch

from fusion_engine import Features, Widths

WIDTHS = {"image": Widths(5, 3), "keys": Widths(4, 2), "text": Widths(6, 6)}


def widths(m):
    return dict(list(WIDTHS.items())[:m])


def make_rows(m, seed=0):
    """Features of m inputs and present [2^m m], in float64."""
    g = torch.Generator().manual_seed(seed)
    present = torch.cartesian_prod(*[torch.tensor([True, False])] * m).reshape(-1, m)
    features = {
        name: Features.of_pooled(
            torch.randn(len(present), w.pooled, generator=g, dtype=torch.float64).masked_fill(
                ~present[:, [i]], float("nan")
            )
        )
        for i, (name, w) in enumerate(widths(m).items())
    }
    return features, present


def make_fusion(kind, m, **config):
    """A fusion of m inputs in float64, no weight where it starts."""
    torch.manual_seed(1)
    module = kind(widths(m), **config).double()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return module


def each_row(features, present):
    """Yield {place in the wiring: vector} of what each row has."""
    vectors = [f.pooled for f in features.values()]
    for row in range(len(present)):
        yield {i: x[row] for i, x in enumerate(vectors) if present[row, i]}


def linear(layer, x):
    """A Linear written by hand."""
    return layer.weight @ x + (0 if layer.bias is None else layer.bias)


def check_double_backward(module, m):
    """Compare the second derivatives of a fusion's input with finite differences, on rows that miss inputs."""
    features, present = make_rows(m)
    vectors = [f.pooled.nan_to_num().requires_grad_() for f in features.values()]

    def fuse(*vectors):
        return module(dict(zip(features, map(Features.of_pooled, vectors), strict=True)), present).pooled

    assert torch.autograd.gradgradcheck(fuse, vectors)
