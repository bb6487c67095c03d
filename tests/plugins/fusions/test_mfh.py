import pytest
import torch
from bilinear_cases import PRESENT, affine, fuse, make, root_and_norm, there, vectors
from torch.testing import assert_close

from fusion_engine_fusions.mfb import MFBFusion
from fusion_engine_fusions.mfh import MFHFusion


@pytest.mark.parametrize("order", [1, 2, 3])
def test_equals_a_cascade_written_by_hand(order):
    module, xs = make(MFHFusion, width=5, inner=4, order=order, window=3), vectors()
    out = fuse(module, xs).pooled
    for row in range(len(PRESENT)):
        expanded, blocks = torch.ones(12, dtype=torch.float64), []
        for j in range(order):
            for i in there(row):
                linear = module.projections[i]
                own = slice(12 * j, 12 * (j + 1))
                expanded = expanded * (linear.weight[own] @ xs[i][row] + linear.bias[own])
            blocks.append(root_and_norm(torch.stack([sum(expanded[3 * o : 3 * o + 3]) for o in range(4)])))
        assert_close(out[row], affine(module.out, torch.cat(blocks)))


def test_order_one_is_factorised_bilinear_pooling_with_a_linear_map():
    high = make(MFHFusion, width=5, inner=4, order=1, window=3)
    low = make(MFBFusion, width=4, window=3)
    low.projections.load_state_dict(high.projections.state_dict())
    assert_close(fuse(high).pooled, high.out(fuse(low).pooled))
