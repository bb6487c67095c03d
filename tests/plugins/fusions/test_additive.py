import pytest
import torch
from subset_rows import check_double_backward, each_row, linear, make_fusion, make_rows
from torch.testing import assert_close

from fusion_engine import Features
from fusion_engine_fusions.additive import MeanFusion, SumFusion


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("kind", [SumFusion, MeanFusion])
def test_equals_a_loop_over_rows_and_inputs(kind, m):
    module = make_fusion(kind, m, width=5)
    features, present = make_rows(m)
    out = module(features, present)
    for row, given in enumerate(each_row(features, present)):
        terms = [linear(module.linears[i], x) for i, x in given.items()]
        scale = {SumFusion: m, MeanFusion: 1}[kind] / max(1, len(terms))
        assert_close(out.pooled[row], sum(terms, torch.zeros(5).double()) * scale)
    assert_close(out.tokens[:, 0], out.pooled)
    assert out.widths == module.widths == (5, 5)


def test_sum_of_equal_terms_does_not_depend_on_how_many_are_present():
    module = make_fusion(SumFusion, 3, width=4)
    with torch.no_grad():
        for layer in module.linears:
            layer.weight.zero_()
            layer.bias.copy_(torch.arange(4))
    features, present = make_rows(3)
    out = module(features, present).pooled
    assert_close(out[:-1], 3 * torch.arange(4).double().expand(7, 4))
    assert not out[-1].any()


def test_half_precision_stays_half():
    module = make_fusion(MeanFusion, 2, width=4).to(torch.bfloat16)
    features, present = make_rows(2)
    features = {n: Features.of_pooled(f.pooled.to(torch.bfloat16)) for n, f in features.items()}
    assert module(features, present).pooled.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", [SumFusion, MeanFusion])
def test_double_backward(kind):
    check_double_backward(make_fusion(kind, 3, width=4), 3)
