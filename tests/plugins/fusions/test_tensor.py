import pytest
import torch
from bilinear_cases import PRESENT, WIDTHS, extended, fuse, make, vectors
from torch.testing import assert_close

from fusion_engine import BuildError, Widths
from fusion_engine_fusions.tensor import TensorFusion


def test_equals_the_weights_applied_to_the_explicit_outer_product():
    module, xs = make(TensorFusion, width=5, inner=2), vectors()
    weights = module.out.weight.reshape(5, 3, 3, 3)
    out = fuse(module, xs).pooled
    for row in range(len(PRESENT)):
        a, b, c = (extended(p.weight @ xs[i][row], PRESENT[row, i]) for i, p in enumerate(module.projections))
        outer = a[:, None, None] * b[None, :, None] * c[None, None, :]
        assert_close(out[row], (weights * outer).sum((1, 2, 3)) + module.out.bias)


def test_without_an_input_the_rest_is_its_own_tensor_fusion():
    whole, xs = make(TensorFusion, width=5, inner=2), vectors()
    rest = make(TensorFusion, 2, width=5, inner=2)
    rest.projections.load_state_dict(whole.projections[:2].state_dict())
    rest.out.weight.data = whole.out.weight.reshape(5, 9, 3)[:, :, -1]
    rest.out.bias = whole.out.bias
    absent = torch.tensor([True, True, False]).expand(len(PRESENT), 3)
    assert_close(fuse(whole, xs, absent).pooled, fuse(rest, xs, absent).pooled)


def test_five_inputs_fit_and_seven_are_refused_with_a_way_out():
    five = TensorFusion({f"input{i}": Widths(2, 2) for i in range(5)}, width=2)
    assert five.out.in_features == 9**5
    with pytest.raises(BuildError, match=r"9\^7 = 4782969\n.*low_rank.*inner 6 or less"):
        TensorFusion({f"input{i}": Widths(2, 2) for i in range(7)})
    with pytest.raises(BuildError, match=r"low_rank, which never builds it$"):
        TensorFusion({f"input{i}": Widths(2, 2) for i in range(21)}, inner=1)


def test_a_row_with_nothing_has_the_weights_of_the_constant():
    module = make(TensorFusion, width=5, inner=2)
    assert_close(fuse(module).pooled[-1], module.out.weight[:, -1] + module.out.bias)
    assert list(module.inputs) == list(WIDTHS)
