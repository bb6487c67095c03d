"""What all of the bilinear family keep, and the pieces that they share."""

import pytest
import torch
from bilinear_cases import PRESENT, WIDTHS, fuse, make, vectors
from torch.testing import assert_close

from fusion_engine import Features, Widths
from fusion_engine_fusions.bilinear import EPS, hadamard, l2_normalised, projection, signed_sqrt
from fusion_engine_fusions.block import BlockFusion
from fusion_engine_fusions.compact_bilinear import CompactBilinearFusion
from fusion_engine_fusions.low_rank import LowRankFusion
from fusion_engine_fusions.mfb import MFBFusion
from fusion_engine_fusions.mfh import MFHFusion
from fusion_engine_fusions.mlb import MLBFusion
from fusion_engine_fusions.mutan import MUTANFusion
from fusion_engine_fusions.tensor import TensorFusion

SMALL = {
    TensorFusion: {"inner": 2},
    LowRankFusion: {"rank": 2},
    MLBFusion: {"inner": 6},
    MFBFusion: {"window": 2},
    MFHFusion: {"inner": 3, "window": 2},
    MUTANFusion: {"inner": 3, "rank": 2},
    BlockFusion: {"inner": 6, "chunks": 2, "rank": 2},
    CompactBilinearFusion: {"size": 7},
}
every = pytest.mark.parametrize("kind", SMALL, ids=lambda kind: kind.__name__)


def small(kind, **config):
    return make(kind, width=5, **SMALL[kind], **config)


@every
def test_what_an_absent_slot_holds_changes_neither_output_nor_gradient(kind):
    module, found = small(kind), []
    for filler in (0.0, float("nan"), float("inf")):
        leaves = [x.masked_fill(~PRESENT[:, [i]], filler).requires_grad_() for i, x in enumerate(vectors())]
        out = fuse(module, leaves).pooled
        found.append([out, *torch.autograd.grad(out.square().sum() + out.sum(), [*leaves, *module.parameters()])])
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(others, found[0], strict=True))


@every
def test_double_backward_is_right_with_rows_that_miss_inputs(kind):
    module = small(kind)

    def fused(*xs):
        return fuse(module, xs).pooled

    leaves = [x.requires_grad_() for x in vectors()]
    assert torch.autograd.gradcheck(fused, leaves)
    assert torch.autograd.gradgradcheck(fused, leaves, atol=1e-4)


@every
def test_a_gradient_penalty_is_finite_at_zero(kind):
    module = small(kind)
    for linear in (m for m in module.modules() if isinstance(m, torch.nn.Linear)):
        if linear.bias is not None:
            torch.nn.init.zeros_(linear.bias)
    leaves = [torch.zeros_like(x).requires_grad_() for x in vectors()]
    gradients = torch.autograd.grad(fuse(module, leaves).pooled.sum(), leaves, create_graph=True)
    sum(g.square().sum() for g in gradients).backward()
    found = [p.grad for p in [*leaves, *module.parameters()] if p.grad is not None]
    assert found
    assert all(g.isfinite().all() for g in [*gradients, *found])


@every
def test_one_input_and_a_batch_of_one(kind):
    module = make(kind, 1, width=5, **SMALL[kind])
    whole = fuse(module).pooled
    assert whole.shape == (len(PRESENT), 5)
    assert whole.isfinite().all()
    assert_close(fuse(module, [x[:1] for x in vectors()], PRESENT[:1]).pooled, whole[:1])


@every
def test_four_inputs_of_the_default_widths_take_less_than_a_million_parameters(kind):
    module = kind({f"input{i}": Widths(64, 128) for i in range(4)})
    assert sum(p.numel() for p in module.parameters()) < 1e6
    assert module.widths == Widths(128, 128)


@every
@pytest.mark.parametrize("m", [1, 2, 4, 6])
def test_at_the_start_rows_differ_however_many_inputs_there_are(kind, m):
    torch.manual_seed(0)
    config = {"inner": 2} if kind is TensorFusion else {}
    module = kind({f"input{i}": WIDTHS["text"] for i in range(m)}, **config)
    xs = {name: torch.randn(200, WIDTHS["text"].pooled) for name in module.inputs}
    out = module({n: Features.of_pooled(x) for n, x in xs.items()}, torch.ones(200, m).bool()).pooled
    scale = out.square().sum(1).mean() if kind is MFBFusion else out.square().mean()
    assert 1e-2 < scale < 5
    assert out.var(0).mean() > 0.1 * out.square().mean()


def test_hadamard_leaves_absent_factors_out():
    xs = [torch.randn(6, 4, dtype=torch.float64) for _ in range(3)]
    out = hadamard(xs, PRESENT)
    for row in range(6):
        expected = torch.ones(4, dtype=torch.float64)
        for i in range(3):
            expected = expected * xs[i][row] if PRESENT[row, i] else expected
        assert_close(out[row], expected)


def test_signed_sqrt_is_one_away_from_zero_and_odd_and_smooth_at_it():
    x = torch.tensor([-9.0, -0.25, 0.0, 0.04, 16.0], dtype=torch.float64, requires_grad=True)
    y = signed_sqrt(x)
    assert_close(y, torch.tensor([-3.0, -0.5, 0.0, 0.2, 4.0], dtype=torch.float64), atol=1e-4, rtol=0)
    assert torch.equal(signed_sqrt(-x), -y)
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert_close(slope[[0, 4]], torch.tensor([1 / 6, 1 / 8], dtype=torch.float64))
    assert_close(slope[2].item(), EPS**-0.25)
    assert torch.autograd.grad(slope.sum(), x)[0].isfinite().all()


def test_l2_normalised_has_length_one_and_keeps_zeros():
    x = torch.randn(3, 5, dtype=torch.float64)
    assert_close(l2_normalised(x), torch.nn.functional.normalize(x, dim=-1), atol=1e-5, rtol=0)
    assert torch.equal(l2_normalised(x * 0), x * 0)


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_projection_keeps_the_variance_times_its_gain(gain):
    torch.manual_seed(0)
    out = projection(400, 500, gain=gain)(torch.randn(300, 400))
    assert_close(out.std().item(), gain, rtol=0.02, atol=0)
