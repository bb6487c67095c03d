import torch
from bilinear_cases import PRESENT, affine, fuse, make, there, vectors
from torch.testing import assert_close

from fusion_engine_fusions.mlb import MLBFusion


def test_equals_a_loop_over_rows_and_present_inputs():
    module, xs = make(MLBFusion, width=5, inner=6), vectors()
    out = fuse(module, xs).pooled
    for row in range(len(PRESENT)):
        product = torch.ones(6, dtype=torch.float64)
        for i in there(row):
            product = product * affine(module.projections[i], xs[i][row]).tanh()
        assert_close(out[row], affine(module.out, product))


def test_without_biases_and_squashing_it_is_a_bilinear_form_of_low_rank():
    module, xs = make(MLBFusion, 2, width=5, inner=6), [1e-3 * x for x in vectors()]
    for linear in module.projections:
        torch.nn.init.zeros_(linear.bias)
    u, v = (linear.weight for linear in module.projections)
    form = torch.einsum("of,fp,fq->opq", module.out.weight, u, v)
    expected = torch.einsum("opq,bp,bq->bo", form, xs[0], xs[1])
    found = fuse(module, xs, torch.ones_like(PRESENT)).pooled - module.out.bias
    assert_close(found * 1e6, expected * 1e6, atol=1e-4, rtol=1e-4)
