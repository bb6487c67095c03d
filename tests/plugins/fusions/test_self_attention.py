import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close

from fusion_engine import BuildError, Features, FusionError, Widths
from fusion_engine_fusions.self_attention import SelfAttentionFusion

WIDTHS = {"image": Widths(5, 3), "keys": Widths(4, 2), "text": Widths(6, 6)}
LENGTHS = {"image": 3, "keys": 5, "text": 2}


def make(b, seed=0):
    torch.manual_seed(seed)
    features = {}
    for name, w in WIDTHS.items():
        mask = torch.arange(LENGTHS[name]) < torch.randint(1, LENGTHS[name] + 1, (b, 1))
        features[name] = Features(torch.randn(b, LENGTHS[name], w.tokens), torch.randn(b, w.pooled), mask)
    return features


def fusion(**config):
    torch.manual_seed(1)
    return SelfAttentionFusion(WIDTHS, **{"width": 16, "heads": 2, **config})


def everywhere(b):
    return torch.ones(b, len(WIDTHS)).bool()


def without(module, *names):
    """The same model, run on a sequence in which the tokens of some inputs do not occur at all."""

    def run(features, row):
        kept = [i for i, n in enumerate(WIDTHS) if n not in names]
        parts = [module.cls[None]]
        for i, name in enumerate(WIDTHS):
            f = features[name]
            parts += [module.linears[i](f.tokens[row, f.mask[row]]) + module.kinds[i]] if i in kept else []
        return module.layers(torch.cat(parts)[None])[0]

    return run


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("missing", [(), ("keys",), ("image", "text"), ("image", "keys", "text")])
def test_missing_equals_the_same_model_without_those_tokens(missing, training):
    module = fusion().train(training)
    features = make(4)
    present = everywhere(4) & torch.tensor([n not in missing for n in WIDTHS])
    out = module(features, present)
    for row in range(4):
        expected = without(module, *missing)(features, row)
        assert_close(out.pooled[row], expected[0])
        assert_close(out.tokens[row, out.mask[row]], expected[1:])
    assert torch.equal(out.mask, torch.cat([f.mask & present[:, [i]] for i, f in enumerate(features.values())], 1))
    assert not out.tokens[~out.mask].any()


def test_layer_equals_attention_written_by_hand():
    module = fusion(depth=1).double()
    features = {n: Features(f.tokens.double(), f.pooled.double(), f.mask) for n, f in make(1).items()}
    layer = module.layers.layers[0]
    x = torch.cat(
        [module.cls[None]]
        + [module.linears[i](f.tokens[0, f.mask[0]]) + module.kinds[i] for i, f in enumerate(features.values())]
    )
    q, k, v = (layer.norm1(x) @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias).chunk(3, -1)
    heads = [torch.softmax(q[:, h] @ k[:, h].T / 8**0.5, -1) @ v[:, h] for h in (slice(0, 8), slice(8, 16))]
    x = x + layer.self_attn.out_proj(torch.cat(heads, -1))
    x = x + layer.linear2(torch.nn.functional.gelu(layer.linear1(layer.norm2(x))))
    assert_close(module(features, everywhere(1)).pooled[0], module.layers.norm(x)[0])


@pytest.mark.parametrize("training", [True, False])
def test_a_row_with_nothing_is_finite_and_always_the_same(training):
    module = fusion().train(training)
    present = everywhere(3)
    present[1:] = False
    with torch.set_grad_enabled(training):
        out = module(make(3), present)
    assert out.pooled.isfinite().all()
    assert_close(out.pooled[1], out.pooled[2])
    assert not out.mask[1:].any()


def test_garbage_in_padding_and_absent_slots_changes_nothing():
    module = fusion()
    features = make(4)
    present = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 0]]).bool()
    outs, grads = [], []
    for filler in (0.0, float("nan"), float("inf")):
        leaves = {}
        for i, (name, f) in enumerate(features.items()):
            valid = f.mask & present[:, [i]]
            leaves[name] = f.tokens.masked_fill(~valid[..., None], filler).requires_grad_()
        given = {n: Features(x, features[n].pooled, features[n].mask) for n, x in leaves.items()}
        out = module(given, present)
        outs.append(out)
        grads.append(
            torch.autograd.grad(out.pooled.sum() + out.tokens.sin().sum(), [*leaves.values(), *module.parameters()])
        )
    for out, grad in zip(outs[1:], grads[1:], strict=True):
        assert torch.equal(out.pooled, outs[0].pooled)
        assert torch.equal(out.tokens, outs[0].tokens)
        assert all(torch.equal(a, b) for a, b in zip(grad, grads[0], strict=True))


def test_training_evaluation_and_the_fused_inference_path_agree():
    module, features = fusion(), make(4)
    present = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 0]]).bool()
    trained = module(features, present)
    module.eval()
    assert_close(module(features, present).pooled, trained.pooled)
    with torch.no_grad():
        fused = module(features, present)
    assert_close(fused.pooled, trained.pooled)
    assert_close(fused.tokens, trained.tokens)


def test_every_parameter_gets_a_gradient():
    module = fusion()
    out = module(make(4), everywhere(4))
    out.pooled[:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_double_backward():
    module = fusion(depth=1, width=4, heads=2).double()
    features = make(2)

    def fuse(x):
        given = {n: Features(f.tokens.double(), f.pooled.double(), f.mask) for n, f in features.items()}
        given["keys"] = Features(x, given["keys"].pooled, given["keys"].mask)
        return module(given, torch.tensor([[1, 1, 0], [0, 1, 1]]).bool()).pooled

    with sdpa_kernel(SDPBackend.MATH):
        assert torch.autograd.gradgradcheck(fuse, (features["keys"].tokens.double().requires_grad_(),))


def test_dropout_is_off_unless_asked_for():
    features = make(2)
    quiet, noisy = fusion(), fusion(dropout=0.5)
    assert torch.equal(quiet(features, everywhere(2)).pooled, quiet(features, everywhere(2)).pooled)
    assert not torch.equal(noisy(features, everywhere(2)).pooled, noisy(features, everywhere(2)).pooled)


def test_refuses_heads_that_do_not_divide_the_width():
    with pytest.raises(FusionError, match=r"width 128, heads 7\n.*heads 4, or width 133") as caught:
        SelfAttentionFusion(WIDTHS, width=128, heads=7)
    assert isinstance(caught.value, BuildError)
