import pytest
import torch
from subset_rows import check_double_backward, each_row, linear, make_fusion, make_rows, widths
from torch.testing import assert_close

from fusion_engine import BuildError, Features
from fusion_engine_fusions.mixture_of_experts import MixtureOfExpertsFusion


def whole(module, given):
    return torch.cat([given.get(i, placeholder) for i, placeholder in enumerate(module.placeholders)])


def expert(module, e, x):
    hidden = (x @ module.weight_in[e] + module.bias_in[e]).clamp(min=0)
    return hidden @ module.weight_out[e] + module.bias_out[e]


@pytest.mark.parametrize(("m", "experts", "chosen"), [(1, 3, 2), (2, 4, 3), (3, 4, 2), (3, 3, 3)])
def test_equals_a_loop_over_the_chosen_experts(m, experts, chosen):
    module = make_fusion(MixtureOfExpertsFusion, m, width=5, experts=experts, chosen=chosen, hidden=4)
    features, present = make_rows(m)
    out = module(features, present).pooled
    for row, given in enumerate(each_row(features, present)):
        x = whole(module, given)
        logits = linear(module.router, torch.cat([x, present[row].double()]))
        best = sorted(range(experts), key=lambda e: -logits[e])[:chosen]
        gates = torch.stack([logits[e].exp() for e in best])
        made = torch.stack([expert(module, e, x) for e in best])
        assert_close(out[row], (gates / gates.sum()) @ made)


def test_gates_are_k_shares_of_one():
    module = make_fusion(MixtureOfExpertsFusion, 3, width=5, experts=5, chosen=2)
    x = 3 * torch.randn(64, 3 + 2 + 6, generator=torch.Generator().manual_seed(0)).double()
    gates = module.gates(x, torch.ones(64, 3).bool())
    assert_close(gates.sum(1), torch.ones(64).double())
    assert ((gates > 0).sum(1) == 2).all()


def test_an_expert_learns_from_the_rows_that_chose_it_and_from_no_other():
    module = make_fusion(MixtureOfExpertsFusion, 3, width=5, experts=4, chosen=2)
    features, present = make_rows(3)
    x = torch.stack([whole(module, given) for given in each_row(features, present)])
    used = module.gates(x, present) > 0
    for row in range(len(present)):
        module.zero_grad()
        one = {n: Features.of_pooled(f.pooled[row : row + 1]) for n, f in features.items()}
        module(one, present[row : row + 1]).pooled.sum().backward()
        assert torch.equal(module.bias_out.grad.abs().sum(1) > 0, used[row])
        assert torch.equal(module.router.bias.grad != 0, used[row])


@pytest.mark.parametrize("seed", range(5))
def test_at_the_start_rows_choose_differently_so_that_every_expert_learns(seed):
    torch.manual_seed(seed)
    module = MixtureOfExpertsFusion(widths(3))
    features = {n: Features.of_pooled(torch.randn(128, w.pooled)) for n, w in widths(3).items()}
    module(features, torch.rand(128, 3) < 0.7).pooled.square().sum().backward()
    assert (module.weight_in.grad.flatten(1).abs().sum(1) > 0).all()


def test_the_router_is_told_what_is_missing():
    module = make_fusion(MixtureOfExpertsFusion, 2, width=5, experts=3, chosen=3)
    x = torch.zeros(4, 5).double()
    gates = module.gates(x, make_rows(2)[1])
    assert len(gates.unique(dim=0)) == 4


def test_experts_start_where_linear_layers_do():
    torch.manual_seed(0)
    module = MixtureOfExpertsFusion(widths(3), width=64, hidden=100)
    for p, fan_in in ((module.weight_in, 11), (module.bias_in, 11), (module.weight_out, 100), (module.bias_out, 100)):
        assert fan_in**-0.5 * 0.95 < p.abs().max() <= fan_in**-0.5


def test_refuses_to_choose_more_experts_than_there_are():
    with pytest.raises(BuildError, match=r"(?s)'chosen'.*at most 3.*actual: 4.*chosen 3, or experts 4"):
        MixtureOfExpertsFusion(widths(2), experts=3, chosen=4)


def test_double_backward():
    check_double_backward(make_fusion(MixtureOfExpertsFusion, 3, width=3, hidden=3), 3)
