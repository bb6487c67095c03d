import itertools

import torch
from bilinear_cases import PRESENT, WIDTHS, affine, fuse, make, named, root_and_norm, there, vectors
from torch.testing import assert_close

from fusion_engine_fusions.compact_bilinear import CompactBilinearFusion, CountSketch


def sketch_of_outer(module, xs, row, inputs):
    """Hash every element of the explicit outer product: places add up, signs multiply."""
    out = torch.zeros(module.size, dtype=torch.float64)
    for index in itertools.product(*(range(xs[i].shape[1]) for i in inputs)):
        place, value = 0, 1.0
        for i, p in zip(inputs, index, strict=True):
            sketch = module.sketches[i]
            place, value = place + int(sketch.place[p]), value * int(sketch.sign[p]) * xs[i][row, p]
        out[place % module.size] += value
    return out


def test_equals_the_count_sketch_of_the_explicit_outer_product():
    for size in (7, 8):
        module, xs = make(CompactBilinearFusion, width=5, size=size), vectors()
        out = fuse(module, xs).pooled
        for row in range(len(PRESENT)):
            normalised = root_and_norm(sketch_of_outer(module, xs, row, there(row)))
            assert_close(out[row], affine(module.out, normalised))


def test_inner_products_of_sketches_are_unbiased_estimates():
    x, y = vectors()[2][:2]
    generator = torch.Generator().manual_seed(0)
    both = torch.stack([x, y])
    found = []
    for _ in range(4000):
        a, b = CountSketch(4, 3, generator)(both)
        found.append((a * b).sum())
    estimates = torch.stack(found)
    assert estimates.std() > 0.3
    assert abs(estimates.mean() - x @ y) < 4 * estimates.std() / 4000**0.5


def test_the_kernel_of_compact_pooling_estimates_that_of_the_outer_product():
    """<sketch(x (x) y), sketch(v (x) w)> estimates <x, v> <y, w>."""
    xs, found = vectors(), []
    for seed in range(1500):
        module = CompactBilinearFusion(dict(list(WIDTHS.items())[:2]), width=1, size=16, seed=seed).double()
        first, second = module._convolved(xs[:2], torch.ones(len(PRESENT), 2).bool())[:2]
        found.append((first * second).sum().detach())
    estimates, exact = torch.stack(found), (xs[0][0] @ xs[0][1]) * (xs[1][0] @ xs[1][1])
    assert abs(estimates.mean() - exact) < 4 * estimates.std() / 1500**0.5


def test_hashes_follow_the_seed_alone_differ_between_inputs_and_are_saved():
    torch.manual_seed(5)
    first = CompactBilinearFusion({"a": WIDTHS["text"], "b": WIDTHS["text"]}, size=64)
    torch.manual_seed(6)
    second = CompactBilinearFusion({"a": WIDTHS["text"], "b": WIDTHS["text"]}, size=64)
    other = CompactBilinearFusion({"a": WIDTHS["text"], "b": WIDTHS["text"]}, size=64, seed=1)
    hashes = {n for n in first.state_dict() if n.startswith("sketches.")}
    assert hashes == {f"sketches.{i}.{what}" for i in (0, 1) for what in ("place", "sign")}
    assert all(torch.equal(first.state_dict()[n], second.state_dict()[n]) for n in hashes)
    assert not torch.equal(first.sketches[0].place, other.sketches[0].place)
    assert not torch.equal(first.sketches[0].place, first.sketches[1].place)
    other.load_state_dict(first.state_dict())
    assert torch.equal(other.sketches[0].place, first.sketches[0].place)


def test_half_precision_and_autocast_leave_the_transform_in_single():
    module = make(CompactBilinearFusion, width=5, size=7)
    expected = fuse(module).pooled.float()
    single = [x.float() for x in vectors()]
    module.float()
    with torch.autocast("cpu", torch.bfloat16):
        found = fuse(module, single).pooled
    assert found.dtype == torch.bfloat16
    assert_close(found.float(), expected, atol=0.05, rtol=0)
    half = module.bfloat16()(named([x.bfloat16() for x in single]), PRESENT).pooled
    assert half.dtype == torch.bfloat16
    assert half.isfinite().all()
