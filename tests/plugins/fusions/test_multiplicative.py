import pytest
import torch
from subset_rows import WIDTHS, check_double_backward, each_row, linear, make_fusion, make_rows
from torch.testing import assert_close

from fusion_engine_fusions.multiplicative import MultiplicativeFusion


def extended(interaction):
    """W, U, V and b as one tensor [dz+1 dx+1 d] on [z, 1] and [x, 1], W written out from its factors."""
    w = torch.einsum("pi,qj,pqd->ijd", interaction.left.weight, interaction.right.weight, interaction.core)
    top = torch.cat([w, interaction.linear_z.weight.T[:, None]], 1)
    bottom = torch.cat([interaction.linear_x.weight.T, interaction.linear_z.bias[None]])
    return torch.cat([top, bottom[None]])


def with_one(x):
    return torch.cat([x, torch.ones(1).double()])


@pytest.mark.parametrize("m", [2, 3])
def test_equals_the_explicit_tensor_row_by_row_where_the_one_stays(m):
    module = make_fusion(MultiplicativeFusion, m, width=4, rank=3)
    features, present = make_rows(m)
    out = module(features, present).pooled
    sizes = [w.pooled for w in WIDTHS.values()]
    for row, given in enumerate(each_row(features, present)):
        x = [with_one(given.get(i, torch.zeros(sizes[i]).double())) for i in range(m)]
        state = x[0]
        for i, interaction in enumerate(module.interactions, 1):
            state = with_one(torch.einsum("i,j,ijd->d", state, x[i], extended(interaction)))
        assert_close(out[row], state[:-1])


def test_two_inputs_are_the_papers_formula_and_what_is_left_of_it():
    module = make_fusion(MultiplicativeFusion, 2, width=4, rank=3)
    features, present = make_rows(2)
    (only,) = module.interactions
    z, x = features["image"].pooled[0], features["keys"].pooled[0]
    W = extended(only)[:-1, :-1]
    U, V, b = only.linear_z.weight, only.linear_x.weight, only.linear_z.bias
    out = module(features, present).pooled
    assert_close(out[0], torch.einsum("i,ijd,j->d", z, W, x) + U @ z + V @ x + b)
    assert_close(out[1], U @ features["image"].pooled[1] + b)
    assert_close(out[2], V @ features["keys"].pooled[2] + b)
    assert_close(out[3], b)


def test_a_missing_input_takes_exactly_the_monomials_that_it_occurs_in():
    """Of a polynomial that is linear in each input, the part without x_i is the value at x_i = 0."""
    module = make_fusion(MultiplicativeFusion, 3, width=4, rank=3)
    features, present = make_rows(3)
    full = {n: type(f).of_pooled(f.pooled[:1].expand(8, -1)) for n, f in features.items()}
    everywhere = torch.ones_like(present)

    def scaled(factor):
        return {n: type(f).of_pooled(f.pooled * factor) for n, f in full.items() if n == "keys"}

    values = [module({**full, **scaled(t)}, everywhere).pooled[0] for t in (0.0, 1.0, 2.0)]
    assert_close(values[2] - values[1], values[1] - values[0])
    lacking = everywhere & (torch.arange(3) != 1)
    assert_close(module(full, lacking).pooled[0], 2 * values[1] - values[2])


def test_one_input_is_its_linear():
    module = make_fusion(MultiplicativeFusion, 1, width=4)
    features, present = make_rows(1)
    out = module(features, present).pooled
    assert_close(out[0], linear(module.start, features["image"].pooled[0]))
    assert_close(out[1], module.start.bias)


def test_full_rank_reaches_any_bilinear_form():
    module = make_fusion(MultiplicativeFusion, 2, width=4, rank=3)
    wanted = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0)).double()
    (only,) = module.interactions
    with torch.no_grad():
        only.left.weight.copy_(torch.eye(3))
        only.right.weight.copy_(torch.eye(3)[:, :2])
        only.core.zero_()
        only.core[:, :2] = wanted
    assert_close(extended(only)[:-1, :-1], wanted)


def test_double_backward():
    check_double_backward(make_fusion(MultiplicativeFusion, 3, width=3, rank=2), 3)
