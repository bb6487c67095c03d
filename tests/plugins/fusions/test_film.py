import pytest
import torch
from subset_rows import WIDTHS, check_double_backward, each_row, linear, make_fusion, make_rows, widths
from torch.testing import assert_close

from fusion_engine import BuildError
from fusion_engine_fusions.film import FilmFusion


@pytest.mark.parametrize("target", [None, "keys", "text"])
def test_equals_gamma_and_beta_written_by_hand(target):
    module = make_fusion(FilmFusion, 3, width=5, target=target)
    features, present = make_rows(3)
    out = module(features, present).pooled
    t = 0 if target is None else list(WIDTHS).index(target)
    for row, given in enumerate(each_row(features, present)):
        gamma, beta = torch.ones(5).double(), torch.zeros(5).double()
        for i, x in given.items():
            if i != t:
                said = linear(module.linears[i], x)
                gamma, beta = gamma + said[:5], beta + said[5:]
        assert_close(out[row], gamma * linear(module.linears[t], given.get(t, module.placeholder)) + beta)


@pytest.mark.parametrize("m", [1, 3])
def test_without_conditions_it_is_its_targets_linear(m):
    module = make_fusion(FilmFusion, m, width=5)
    features, present = make_rows(m)
    present = present & (torch.arange(m) == 0)
    x = torch.where(present[:, :1], features["image"].pooled, module.placeholder)
    assert_close(module(features, present).pooled, module.linears[0](x))


def test_a_condition_that_says_zero_is_the_identity():
    module = make_fusion(FilmFusion, 2, width=5)
    with torch.no_grad():
        module.linears[1].weight.zero_()
        module.linears[1].bias.zero_()
    features, present = make_rows(2)
    out = module(features, present).pooled
    assert_close(out[0], linear(module.linears[0], features["image"].pooled[0]))


def test_refuses_a_target_that_is_no_input():
    with pytest.raises(BuildError, match=r"no such input.*\n.*'target'\n.*image, keys, text\n.*imag\n.*'image'"):
        FilmFusion(widths(3), target="imag")


def test_double_backward():
    check_double_backward(make_fusion(FilmFusion, 3, width=3, target="keys"), 3)
