import pytest
import torch
from token_cases import (
    PRESENT,
    WIDTHS,
    attention,
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
from fusion_engine_fusions.perceiver import PerceiverFusion


def fusion(**config):
    torch.manual_seed(1)
    return shaken(PerceiverFusion(WIDTHS, **{"width": 8, "heads": 2, "latents": 3, **config}))


def by_hand(module, features, present, row):
    """The latents [l d] of one row, on its valid tokens alone."""
    names = list(module.inputs)
    embedded = [
        module.linears[names.index(n)](x) + module.kinds[names.index(n)]
        for n, x in own_tokens(features, present, row).items()
    ]
    x = module.latents
    for block in module.blocks:
        if embedded:
            asked = block.norm_tokens(torch.cat(embedded))
            x = x + attention(block.attention, block.norm_latents(x), asked)
        x = layer_by_hand(block.layer, x + block.feed(x))
    return module.norm(x)


@pytest.mark.parametrize("config", [{}, {"latents": 1, "depth": 1}, {"depth": 3, "heads": 1}])
def test_equals_a_loop_over_rows_without_padding(config):
    module, features = fusion(**config), ragged()
    out = module(features, PRESENT)
    for row in range(len(PRESENT)):
        expected = by_hand(module, features, PRESENT, row)
        assert_close(out.tokens[row], expected)
        assert_close(out.pooled[row], expected.mean(0))
    assert out.mask.all()


def test_the_order_of_an_inputs_tokens_is_the_encoders_affair():
    module, features = fusion(), ragged()
    order = torch.tensor([3, 1, 4, 0, 2])
    f = features["keys"]
    shuffled = {**features, "keys": Features(f.tokens[:, order], f.pooled, f.mask[:, order])}
    assert_close(module(shuffled, PRESENT).pooled, module(features, PRESENT).pooled)


def test_evaluation_and_the_fused_inference_path_agree():
    module, features = fusion(), ragged()
    expected = module(features, PRESENT)
    with torch.no_grad():
        found = module(features, PRESENT)
    assert_close(found.tokens, expected.tokens)


def test_garbage_in_padding_and_absent_slots_changes_nothing():
    check_garbage(fusion())


def test_every_parameter_gets_a_gradient():
    check_gradients(fusion())


def test_double_backward():
    check_double_backward(fusion(width=4, latents=2, depth=1))


def test_refuses_heads_that_do_not_divide_the_width():
    with pytest.raises(BuildError, match=r"width 128, heads 7\n.*heads 4, or width 133"):
        PerceiverFusion(WIDTHS, heads=7)
