import pytest
import torch
from token_cases import (
    PRESENT,
    WIDTHS,
    check_double_backward,
    check_garbage,
    check_gradients,
    own_tokens,
    ragged,
    shaken,
)
from torch import nn
from torch.nn.functional import layer_norm
from torch.testing import assert_close

from fusion_engine import BuildError
from fusion_engine_fusions.crossmodal import CrossmodalFusion


def fusion(widths=WIDTHS, **config):
    torch.manual_seed(1)
    return shaken(CrossmodalFusion(widths, **{"width": 7, "inner": 6, "heads": 2, "depth": 2, **config}))


def norm(stacked, s, x):
    return layer_norm(x, x.shape[-1:], stacked.weight[s], stacked.bias[s])


def reference_attention(stacked, s):
    """Transformer s of the stack's attention as a module of torch, its weights copied."""
    width = stacked.queries.weight.shape[1]
    module = nn.MultiheadAttention(width, stacked.heads, batch_first=True).double()
    q, kv, out = stacked.queries, stacked.keys_values, stacked.out
    with torch.no_grad():
        module.in_proj_weight.copy_(torch.cat([q.weight[s], kv.weight[s]], 1).T)
        module.in_proj_bias.copy_(torch.cat([q.bias[s], kv.bias[s]]))
        module.out_proj.weight.copy_(out.weight[s].T)
        module.out_proj.bias.copy_(out.bias[s])
    return module


def transformer(stacked, s, x, source=None, nothing=False):
    """Transformer s of the stack on one row's tokens [n d], without padding."""
    for layer in stacked.layers:
        if not nothing:
            q, y = norm(layer.norm, s, x), norm(layer.norm, s, x if source is None else source)
            x = x + reference_attention(layer.attention, s)(q[None], y[None], y[None])[0][0]
        first, wide, _, narrow = layer.feed
        h = torch.relu(norm(first, s, x) @ wide.weight[s] + wide.bias[s])
        x = x + h @ narrow.weight[s] + narrow.bias[s]
    return norm(stacked.norm, s, x)


def by_hand(module, features, present, row):
    """The paper's formula for one row: pair by pair, on its valid tokens alone."""
    names = list(module.inputs)
    own = own_tokens(features, present, row)
    own = {n: module.linears[names.index(n)](x) for n, x in own.items()}
    pair, means, tokens = 0, [], []
    for i, target in enumerate(names):
        crossed = []
        for source in names:
            if source == target:
                continue
            if target in own:
                y = transformer(module.crossmodal, pair, own[target], own.get(source), nothing=source not in own)
                crossed.append(y)
            pair += 1
        if target in own:
            h = transformer(module.transformer, i, torch.cat(crossed, 1) if crossed else own[target])
            means.append(h.mean(0))
            e = h.shape[1]
            tokens.append(h @ module.out.weight[:, i * e : i * e + e].T)
        else:
            means.append(module.placeholders[i])
    return module.out(torch.cat(means)), torch.cat(tokens) if tokens else torch.zeros(0, 7).double()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_equals_a_loop_over_rows_and_pairs_without_padding(count):
    widths = dict(list(WIDTHS.items())[:count])
    module, features, present = fusion(widths), ragged(widths), PRESENT[:, :count]
    out = module(features, present)
    for row in range(len(present)):
        pooled, tokens = by_hand(module, features, present, row)
        assert_close(out.pooled[row], pooled)
        assert_close(out.tokens[row, out.mask[row]], tokens)
    assert torch.equal(out.mask, torch.cat([f.mask & present[:, [i]] for i, f in enumerate(features.values())], 1))
    assert not out.tokens[~out.mask].any()


def test_pooled_is_the_sum_of_the_mean_tokens_where_all_are_present():
    module, features = fusion(), ragged()
    out = module(features, torch.ones_like(PRESENT))
    total, start = module.out.bias, 0
    for f in features.values():
        n = f.mask.shape[1]
        total = total + out.tokens[:, start : start + n].sum(1) / f.mask.sum(1, keepdim=True)
        start += n
    assert_close(out.pooled, total)


def test_a_missing_target_is_its_placeholder_whatever_the_others_say():
    module = fusion()
    absent = ~torch.ones_like(PRESENT)
    expected = module.out(module.placeholders.flatten())
    assert_close(module(ragged(), absent).pooled, expected.expand(len(PRESENT), -1))


def test_garbage_in_padding_and_absent_slots_changes_nothing():
    check_garbage(fusion())


def test_every_parameter_gets_a_gradient():
    check_gradients(fusion())


def test_double_backward():
    check_double_backward(fusion(inner=4, depth=1))


def test_dropout_is_off_unless_asked_for():
    quiet, noisy, features = fusion().train(), fusion(dropout=0.5).train(), ragged()
    assert torch.equal(quiet(features, PRESENT).pooled, quiet(features, PRESENT).pooled)
    assert not torch.equal(noisy(features, PRESENT).pooled, noisy(features, PRESENT).pooled)


def test_refuses_heads_that_do_not_divide_the_inner_width():
    with pytest.raises(BuildError, match=r"inner 40, heads 7\n.*heads 5, or inner 42"):
        CrossmodalFusion(WIDTHS, inner=40, heads=7)
