import pytest
import torch
from token_cases import (
    PRESENT,
    WIDTHS,
    check_double_backward,
    check_garbage,
    check_gradients,
    layer_by_hand,
    own_tokens,
    ragged,
    shaken,
)
from torch.testing import assert_close

from fusion_engine import BuildError, Features
from fusion_engine_fusions.bottleneck import BottleneckFusion


def fusion(**config):
    torch.manual_seed(1)
    return shaken(BottleneckFusion(WIDTHS, **{"width": 8, "heads": 2, "bottlenecks": 3, **config}))


def by_hand(module, features, present, row):
    """The paper's equations 8 and 9 for one row: an input after the other, on its valid tokens alone."""
    names, shared = list(module.inputs), module.bottlenecks
    xs = {}
    for n, x in own_tokens(features, present, row).items():
        i = names.index(n)
        xs[n] = torch.cat([module.cls[i][None], module.linears[i](x)])
    for depth, layers in enumerate(module.layers):
        seen = []
        for n, x in xs.items():
            joined = x if depth < module.fusion_from else torch.cat([x, shared])
            out = layer_by_hand(layers[names.index(n)], joined)
            xs[n] = out[: len(x)]
            seen.append(out[len(x) :])
        if seen and depth >= module.fusion_from:
            shared = sum(seen) / len(seen)
    if not xs:
        return torch.zeros(8).double(), torch.zeros(0, 8).double()
    out = [module.norm(x) for x in xs.values()]
    return sum(x[0] for x in out) / len(out), torch.cat([x[1:] for x in out])


@pytest.mark.parametrize(
    "config", [{}, {"depth": 2, "fusion_from": 0, "bottlenecks": 1}, {"depth": 4, "fusion_from": 2}]
)
def test_equals_a_loop_over_rows_and_inputs_without_padding(config):
    module, features = fusion(**config), ragged()
    out = module(features, PRESENT)
    for row in range(len(PRESENT)):
        pooled, tokens = by_hand(module, features, PRESENT, row)
        assert_close(out.pooled[row], pooled)
        assert_close(out.tokens[row, out.mask[row]], tokens)
    assert torch.equal(out.mask, torch.cat([f.mask & PRESENT[:, [i]] for i, f in enumerate(features.values())], 1))
    assert not out.tokens[~out.mask].any()


def test_the_bottlenecks_are_the_only_way_from_one_input_to_another():
    module, features = fusion(), ragged()
    f = features["image"]
    other = {**features, "image": Features(f.tokens + 1, f.pooled, f.mask)}
    everywhere = torch.ones_like(PRESENT)

    def text(given):
        return module(given, everywhere).tokens[:, 8:]

    assert not torch.allclose(text(other), text(features))
    for layers in list(module.layers)[module.fusion_from :]:
        with torch.no_grad():  # an image layer that writes zeros into bottlenecks and tokens says nothing
            for p in (layers[0].self_attn.out_proj, layers[0].linear2):
                p.weight.zero_()
    assert_close(text(other), text(features))


def test_evaluation_and_the_fused_inference_path_agree():
    module, features = fusion(), ragged()
    expected = module(features, PRESENT)
    with torch.no_grad():
        found = module(features, PRESENT)
    assert_close(found.pooled, expected.pooled)
    assert_close(found.tokens, expected.tokens)


def test_garbage_in_padding_and_absent_slots_changes_nothing():
    check_garbage(fusion())


def test_every_parameter_gets_a_gradient():
    check_gradients(fusion())


def test_double_backward():
    check_double_backward(fusion(width=4, depth=2, fusion_from=0, bottlenecks=1))


def test_refuses_layers_that_let_nothing_through():
    with pytest.raises(BuildError, match=r"depth 3, fusion_from 2\n.*fusion_from 1 or less, or depth 4"):
        BottleneckFusion(WIDTHS, depth=3, fusion_from=2)


def test_refuses_heads_that_do_not_divide_the_width():
    with pytest.raises(BuildError, match=r"width 128, heads 7\n.*heads 4, or width 133"):
        BottleneckFusion(WIDTHS, heads=7)
