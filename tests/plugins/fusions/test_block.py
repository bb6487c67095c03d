import pytest
import torch
from bilinear_cases import PRESENT, WIDTHS, affine, fuse, make, root_and_norm, there, vectors
from torch.testing import assert_close

from fusion_engine import BuildError
from fusion_engine_fusions.block import BlockFusion


def test_two_inputs_equal_a_block_superdiagonal_core():
    """The core [inner inner inner] is zero but for one block [p p p] a chunk, whose slices have rank r."""
    module, xs = make(BlockFusion, 2, width=5, inner=6, chunks=2, rank=2), vectors()
    core = torch.zeros(6, 6, 6, dtype=torch.float64)
    m, n = module.cores  # [c r p q]
    for c in range(2):
        own = slice(3 * c, 3 * c + 3)
        core[own, own, own] = sum(m[c, r][:, None, :] * n[c, r][None, :, :] for r in range(2))
    out = fuse(module, xs, torch.ones_like(PRESENT)).pooled
    for row in range(len(PRESENT)):
        s, t = (affine(linear, xs[i][row]) for i, linear in enumerate(module.projections))
        z = (core * s[:, None, None] * t[None, :, None]).sum((0, 1))
        expected = affine(module.out, torch.cat([root_and_norm(z[:3]), root_and_norm(z[3:])]))
        assert_close(out[row], expected)


def test_equals_a_loop_over_chunks_ranks_and_present_inputs():
    module, xs = make(BlockFusion, width=5, inner=8, chunks=4, rank=3), vectors()
    out = fuse(module, xs).pooled
    for row in range(len(PRESENT)):
        parts = []
        for c in range(4):
            z = torch.zeros(2, dtype=torch.float64)
            for r in range(3):
                term = torch.ones(2, dtype=torch.float64)
                for i in there(row):
                    t = affine(module.projections[i], xs[i][row])[2 * c : 2 * c + 2]
                    term = term * (t @ module.cores[i][c, r])
                z = z + term
            parts.append(root_and_norm(z))
        assert_close(out[row], affine(module.out, torch.cat(parts)))


@pytest.mark.parametrize(("inner", "chunks", "fix"), [(10, 4, 12), (8, 8, 16), (2, 3, 6)])
def test_refuses_chunks_that_do_not_divide_the_width(inner, chunks, fix):
    with pytest.raises(BuildError, match=rf"inner {inner}, chunks {chunks}\n.*inner {fix}$"):
        BlockFusion(WIDTHS, inner=inner, chunks=chunks)
    BlockFusion(WIDTHS, inner=fix, chunks=chunks)
