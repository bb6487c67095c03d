import pytest
import torch
from subset_rows import WIDTHS, check_double_backward, each_row, linear, make_fusion, make_rows
from torch.testing import assert_close

from fusion_engine_fusions.deep_sets import DeepSetsFusion


@pytest.mark.parametrize("m", [1, 2, 3])
def test_equals_a_loop_over_the_sets_elements(m):
    module = make_fusion(DeepSetsFusion, m, width=5, hidden=4)
    features, present = make_rows(m)
    out = module(features, present).pooled

    def by_hand(layers, x):
        return linear(layers[2], linear(layers[0], x).clamp(min=0))

    for row, given in enumerate(each_row(features, present)):
        total = torch.zeros(4).double()
        for i, x in given.items():
            total = total + by_hand(module.phi, module.linears[i].weight @ x + module.kinds[i])
        assert_close(out[row], by_hand(module.rho, total))


def test_inputs_and_their_parameters_in_another_order_give_the_same():
    module = make_fusion(DeepSetsFusion, 3, width=5)
    features, present = make_rows(3)
    order = [2, 0, 1]
    names = list(WIDTHS)
    other = DeepSetsFusion({names[i]: WIDTHS[names[i]] for i in order}, width=5).double()
    other.phi, other.rho = module.phi, module.rho
    with torch.no_grad():
        other.kinds.copy_(module.kinds[order])
    for place, i in enumerate(order):
        other.linears[place] = module.linears[i]
    found = other({names[i]: features[names[i]] for i in order}, present[:, order]).pooled
    assert_close(found, module(features, present).pooled)


def test_depth_and_hidden_are_those_of_both_networks():
    module = make_fusion(DeepSetsFusion, 2, width=5, hidden=4, depth=2)
    shapes = [
        [tuple(p.shape) for n, p in part.named_parameters() if "weight" in n] for part in (module.phi, module.rho)
    ]
    assert shapes == [[(4, 4), (4, 4), (4, 4)], [(4, 4), (4, 4), (5, 4)]]
    assert make_fusion(DeepSetsFusion, 2, width=5).phi[0].in_features == 5


def test_double_backward():
    check_double_backward(make_fusion(DeepSetsFusion, 3, width=3, activation="silu"), 3)
