import pytest
import torch
from torch.testing import assert_close

from fusion_engine import Features, Widths
from fusion_engine_fusions.concat import ConcatFusion

WIDTHS = {"image": Widths(5, 3), "keys": Widths(4, 2)}


def make(b, seed=0):
    torch.manual_seed(seed)
    features = {
        n: Features(torch.randn(b, 2, w.tokens), torch.randn(b, w.pooled), torch.ones(b, 2).bool())
        for n, w in WIDTHS.items()
    }
    return features, torch.tensor([[1, 1], [1, 0], [0, 1], [0, 0]]).bool().repeat(b // 4 + 1, 1)[:b]


def fusion(**config):
    torch.manual_seed(1)
    module = ConcatFusion(WIDTHS, **config)
    for placeholder in module.placeholders:
        torch.nn.init.normal_(placeholder)
    return module


def test_equals_a_matmul_written_by_hand():
    module = fusion(width=6, hidden=7)
    features, present = make(4)
    first, second = module.mlp[0], module.mlp[2]
    out = module(features, present)
    for row in range(4):
        x = torch.cat(
            [features[n].pooled[row] if present[row, i] else module.placeholders[i] for i, n in enumerate(WIDTHS)]
        )
        expected = second.weight @ (first.weight @ x + first.bias).clamp(min=0) + second.bias
        assert_close(out.pooled[row], expected)
    assert_close(out.tokens[:, 0], out.pooled)
    assert out.mask.all()
    assert out.widths == module.widths == Widths(6, 6)


def test_depth_is_the_number_of_hidden_layers():
    assert [type(layer).__name__ for layer in fusion(depth=0).mlp] == ["Linear"]
    assert [m.out_features for m in fusion(depth=3, hidden=5, width=2).mlp if hasattr(m, "out_features")] == [
        5,
        5,
        5,
        2,
    ]


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu", "silu"])
def test_activation_is_the_named_one(activation):
    reference = {"leaky_relu": lambda x: torch.nn.functional.leaky_relu(x, 0.2)}
    function = reference.get(activation, getattr(torch.nn.functional, activation))
    module = fusion(width=4, activation=activation)
    x = torch.randn(9, 5)
    assert_close(module.mlp(x), module.mlp[2](function(module.mlp[0](x))))


def test_placeholder_learns_where_its_input_is_missing_and_only_there():
    module = ConcatFusion(WIDTHS, width=6)
    features, _ = make(2)
    module(features, torch.tensor([[1, 1], [0, 1]]).bool()).pooled.square().sum().backward()
    image, keys = module.placeholders
    assert image.grad.abs().sum() > 0
    assert_close(keys.grad, torch.zeros_like(keys))


def test_what_an_absent_slot_holds_changes_neither_output_nor_gradient():
    module = fusion(width=6)
    features, present = make(4)
    grads, outs = [], []
    for filler in (0.0, float("nan"), float("inf")):
        leaves = {
            n: f.pooled.masked_fill(~present[:, i, None], filler).requires_grad_()
            for i, (n, f) in enumerate(features.items())
        }
        out = module({n: Features.of_pooled(x) for n, x in leaves.items()}, present).pooled
        outs.append(out)
        grads.append(torch.autograd.grad(out.sum(), [*leaves.values(), *module.parameters()]))
    for out, grad in zip(outs[1:], grads[1:], strict=True):
        assert torch.equal(out, outs[0])
        assert all(torch.equal(a, b) for a, b in zip(grad, grads[0], strict=True))


def test_rows_are_independent_and_double_backward_works():
    module = fusion(width=6, activation="gelu").double()
    torch.manual_seed(2)
    x, y = torch.randn(4, 3).double(), torch.randn(4, 2).double()
    _, present = make(4)

    def fuse(x, y, rows=slice(None)):
        return module({"image": Features.of_pooled(x), "keys": Features.of_pooled(y)}, present[rows]).pooled

    for row in range(4):
        one = slice(row, row + 1)
        assert_close(fuse(x[one], y[one], one), fuse(x, y)[one])
    assert torch.autograd.gradgradcheck(fuse, (x.requires_grad_(), y.requires_grad_()))
