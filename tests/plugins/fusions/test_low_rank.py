import pytest
import torch
from bilinear_cases import PRESENT, extended, fuse, make, vectors
from torch.testing import assert_close

from fusion_engine import Features, Widths
from fusion_engine_fusions.low_rank import LowRankFusion


def weight_tensor(module):
    """The tensor [d p1 p2 p3] that the factors stand for: their outer products, added up over the rank."""
    total = 0
    for r, weight in enumerate(module.weight):
        a, b, c = (w[r].T for w in module.factors)
        total = total + weight * a[:, :, None, None] * b[:, None, :, None] * c[:, None, None, :]
    return total


def test_equals_the_explicit_weight_tensor_applied_to_the_explicit_outer_product():
    module, xs = make(LowRankFusion, width=5, rank=4), vectors()
    weights = weight_tensor(module)
    out = fuse(module, xs).pooled
    for row in range(len(PRESENT)):
        a, b, c = (extended(x[row], PRESENT[row, i]) for i, x in enumerate(xs))
        outer = a[:, None, None] * b[None, :, None] * c[None, None, :]
        assert_close(out[row], (weights * outer).sum((1, 2, 3)) + module.bias)


def test_one_input_is_a_linear_map():
    module, xs = make(LowRankFusion, 1, width=5, rank=3), vectors()
    matrix = (module.weight[:, None, None] * module.factors[0]).sum(0)
    everywhere = torch.ones_like(PRESENT)
    assert_close(fuse(module, xs, everywhere).pooled, xs[0] @ matrix[:-1] + matrix[-1] + module.bias)


@pytest.mark.parametrize("m", range(2, 9))
def test_the_product_starts_at_one_scale_however_many_inputs_and_with_half_of_them_absent(m):
    torch.manual_seed(0)
    module = LowRankFusion({f"input{i}": Widths(2, 32) for i in range(m)}, width=256)
    features = {name: Features.of_pooled(torch.randn(200, 32)) for name in module.inputs}
    whole = module(features, torch.ones(200, m).bool()).pooled
    assert_close(whole.square().mean().item(), 1.0, rtol=0.25, atol=0)
    assert whole.abs().median() > 0.3
    assert module(features, torch.rand(200, m) < 0.5).pooled.square().mean() > 0.3
    assert_close(
        module(features, torch.zeros(200, m).bool()).pooled.square().mean().item(), (1 - 1 / m) ** m, rtol=0.3, atol=0
    )


def test_every_factor_is_a_parameter_and_learns():
    module = make(LowRankFusion, width=5)
    fuse(module).pooled.square().sum().backward()
    assert {n for n, _ in module.named_parameters()} == {*(f"factors.{i}" for i in range(3)), "weight", "bias"}
    assert all((p.grad != 0).any() for p in module.parameters())
