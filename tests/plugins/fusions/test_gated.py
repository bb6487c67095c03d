import pytest
import torch
from subset_rows import check_double_backward, each_row, linear, make_fusion, make_rows
from torch.testing import assert_close

from fusion_engine_fusions.gated import GatedFusion


def gate_input(module, given):
    return torch.cat([given.get(i, placeholder) for i, placeholder in enumerate(module.placeholders)])


@pytest.mark.parametrize("m", [1, 3])
def test_equals_the_multimodal_formula_row_by_row(m):
    module = make_fusion(GatedFusion, m, width=5)
    features, present = make_rows(m)
    out = module(features, present).pooled
    for row, given in enumerate(each_row(features, present)):
        gates = linear(module.gate, gate_input(module, given)).sigmoid().reshape(m, 5)
        expected = torch.zeros(5).double()
        for i, x in given.items():
            expected = expected + gates[i] * linear(module.linears[i], x).tanh()
        assert_close(out[row], expected)


def test_two_inputs_equal_the_tied_formula_of_the_paper():
    module = make_fusion(GatedFusion, 2, width=5)
    features, present = make_rows(2)
    out = module(features, present).pooled
    both, first, second, none = each_row(features, present)
    h = [[linear(module.linears[i], x).tanh() for i, x in given.items()] for given in (both, first, second)]
    z = [linear(module.gate, gate_input(module, given)).sigmoid() for given in (both, first, second)]
    assert_close(out[0], z[0] * h[0][0] + (1 - z[0]) * h[0][1])
    assert_close(out[1], z[1] * h[1][0])
    assert_close(out[2], (1 - z[2]) * h[2][0])
    assert none == {}
    assert not out[3].any()


def test_tied_gates_take_half_of_the_parameters():
    assert make_fusion(GatedFusion, 2, width=5).gate.weight.shape == (5, 3 + 2)
    assert make_fusion(GatedFusion, 3, width=5).gate.weight.shape == (15, 3 + 2 + 6)


def test_a_saturated_gate_passes_one_input_alone():
    module = make_fusion(GatedFusion, 2, width=5)
    with torch.no_grad():
        module.gate.weight.zero_()
        module.gate.bias.fill_(50.0)
    features, present = make_rows(2)
    assert_close(module(features, present).pooled[0], linear(module.linears[0], features["image"].pooled[0]).tanh())


def test_placeholders_are_seen_only_by_the_gates_of_rows_that_lack_the_input():
    module = make_fusion(GatedFusion, 3, width=4)
    features, _ = make_rows(3)
    present = torch.tensor([[True, False, True]]).expand(8, 3).clone()
    features = {n: type(f).of_pooled(f.pooled.nan_to_num()) for n, f in features.items()}
    module(features, present).pooled.square().sum().backward()
    grads = [p.grad.abs().sum() for p in module.placeholders]
    assert grads[1] > 0
    assert grads[0] == grads[2] == 0


@pytest.mark.parametrize("m", [2, 3])
def test_double_backward(m):
    check_double_backward(make_fusion(GatedFusion, m, width=3), m)
