import torch
from bilinear_cases import PRESENT, affine, fuse, make, root_and_norm, there, vectors
from torch.testing import assert_close

from fusion_engine_fusions.mfb import MFBFusion


def test_equals_bilinear_forms_row_by_row():
    """Each output is the form of its own window: with U and V of that window, x' U' V y."""
    module, xs = make(MFBFusion, 2, width=4, window=3), vectors()
    for linear in module.projections:
        torch.nn.init.zeros_(linear.bias)
    u, v = (linear.weight.reshape(4, 3, -1) for linear in module.projections)
    out = fuse(module, xs, torch.ones_like(PRESENT)).pooled
    for row in range(len(PRESENT)):
        forms = torch.stack([xs[0][row] @ u[o].T @ v[o] @ xs[1][row] for o in range(4)])
        assert_close(out[row], root_and_norm(forms))


def test_equals_a_loop_over_windows_and_present_inputs():
    module, xs = make(MFBFusion, width=4, window=3), vectors()
    out = fuse(module, xs).pooled
    for row in range(len(PRESENT)):
        product = torch.ones(12, dtype=torch.float64)
        for i in there(row):
            product = product * affine(module.projections[i], xs[i][row])
        pooled = torch.stack([sum(product[3 * o : 3 * o + 3]) for o in range(4)])
        assert_close(out[row], root_and_norm(pooled))
        assert_close(out[row].norm().item(), 1.0, atol=1e-4, rtol=0)


def test_a_row_with_nothing_has_equal_numbers():
    assert_close(
        fuse(make(MFBFusion, width=4)).pooled[-1], torch.full([4], 0.5, dtype=torch.float64), atol=1e-5, rtol=0
    )


def test_dropout_is_off_unless_asked_for():
    quiet, noisy, xs = make(MFBFusion, width=4), make(MFBFusion, width=4, dropout=0.5), vectors()
    assert torch.equal(fuse(quiet, xs).pooled, fuse(quiet, xs).pooled)
    assert not torch.equal(fuse(noisy, xs).pooled, fuse(noisy, xs).pooled)
    assert torch.equal(fuse(noisy.eval(), xs).pooled, fuse(quiet, xs).pooled)
