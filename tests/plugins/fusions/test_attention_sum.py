import pytest
import torch
from subset_rows import check_double_backward, each_row, linear, make_fusion, make_rows
from torch.testing import assert_close

from fusion_engine_fusions.attention_sum import AttentionSumFusion


@pytest.mark.parametrize("m", [1, 2, 3])
def test_equals_a_loop_over_the_present_inputs(m):
    module = make_fusion(AttentionSumFusion, m, width=5, hidden=4)
    features, present = make_rows(m)
    out = module(features, present).pooled
    inner, v = module.score[0], module.score[2].weight[0]
    for row, given in enumerate(each_row(features, present)):
        h = [linear(module.linears[i], x) for i, x in given.items()]
        scores = [(v @ linear(inner, x).tanh()).exp() for x in h]
        expected = torch.zeros(5).double()
        for score, x in zip(scores, h, strict=True):
            expected = expected + score / sum(scores) * x
        assert_close(out[row], expected)


def test_weights_sum_to_one_over_the_present_and_are_zero_elsewhere():
    module = make_fusion(AttentionSumFusion, 3, width=5)
    _, present = make_rows(3)
    hidden = 30 * torch.randn(8, 3, 5, generator=torch.Generator().manual_seed(0)).double()
    weights = module.weights(hidden, present)
    assert_close(weights.sum(1), present.any(1).double())
    assert not weights[~present].any()
    assert (weights[present] > 0).all()


def test_equal_inputs_have_equal_shares():
    module = make_fusion(AttentionSumFusion, 3, width=5)
    weights = module.weights(torch.ones(2, 3, 5).double(), torch.tensor([[1, 1, 1], [1, 0, 1]]).bool())
    assert_close(weights, torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.5, 0, 0.5]]).double())


def test_double_backward():
    check_double_backward(make_fusion(AttentionSumFusion, 3, width=3), 3)
