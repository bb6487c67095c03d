import torch
from bilinear_cases import PRESENT, affine, fuse, make, there, vectors
from torch.testing import assert_close

from fusion_engine_fusions.mutan import MUTANFusion


def test_two_inputs_equal_tuckers_core_applied_to_the_explicit_outer_product():
    module, xs = make(MUTANFusion, 2, width=5, inner=3, rank=2), vectors()
    m, n = (core.weight.reshape(2, 3, 3) for core in module.cores)
    tucker = torch.zeros(3, 3, 3, dtype=torch.float64)  # [p q o]
    for o in range(3):
        for r in range(2):
            tucker[:, :, o] += torch.outer(m[r, o], n[r, o])
    out = fuse(module, xs, torch.ones_like(PRESENT)).pooled
    for row in range(len(PRESENT)):
        q, v = (affine(linear, xs[i][row]).tanh() for i, linear in enumerate(module.projections))
        assert_close(out[row], affine(module.out, (tucker * torch.outer(q, v)[:, :, None]).sum((0, 1))))


def test_equals_a_loop_over_ranks_and_present_inputs():
    module, xs = make(MUTANFusion, width=5, inner=3, rank=4), vectors()
    out = fuse(module, xs).pooled
    for row in range(len(PRESENT)):
        z = torch.zeros(3, dtype=torch.float64)
        for r in range(4):
            term = torch.ones(3, dtype=torch.float64)
            for i in there(row):
                t = affine(module.projections[i], xs[i][row]).tanh()
                term = term * (module.cores[i].weight[3 * r : 3 * r + 3] @ t)
            z = z + term
        assert_close(out[row], affine(module.out, z))
