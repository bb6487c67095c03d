"""What the tests of token-level fusions share: rows that miss inputs, and attention written by hand for one row."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import gelu

from fusion_engine import Features, Widths
from fusion_engine.testing import make_features

WIDTHS = {"image": Widths(5, 3), "keys": Widths(4, 2), "text": Widths(6, 6)}
PRESENT = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 1, 0], [0, 0, 0]]).bool()


def double(features):
    return {n: Features(f.tokens.double(), f.pooled.double(), f.mask, f.position) for n, f in features.items()}


def ragged(widths=WIDTHS):
    """Inputs of at most 3, 5 and 2 tokens, in float64."""
    return double(make_features(widths, len(PRESENT), lengths=[3, 5, 2], ragged=True))


def shaken(module):
    """In float64, with no weight left at zero or one."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return module.double().eval()


def own_tokens(features, present, row):
    """The valid tokens [n d] of each input that a row has."""
    return {n: f.tokens[row, f.mask[row]] for i, (n, f) in enumerate(features.items()) if present[row, i]}


def attention(module, x, y):
    """What nn.MultiheadAttention gives for tokens x [n d] that ask y [k d]."""
    wq, wk, wv = module.in_proj_weight.chunk(3)
    bq, bk, bv = module.in_proj_bias.chunk(3)
    q, k, v = x @ wq.T + bq, y @ wk.T + bk, y @ wv.T + bv
    e = x.shape[1] // module.num_heads
    heads = [slice(h * e, h * e + e) for h in range(module.num_heads)]
    found = [torch.softmax(q[:, h] @ k[:, h].T / e**0.5, -1) @ v[:, h] for h in heads]
    return torch.cat(found, 1) @ module.out_proj.weight.T + module.out_proj.bias


def layer_by_hand(layer, x):
    """What a pre-norm nn.TransformerEncoderLayer with GELU gives for tokens x [n d]."""
    y = layer.norm1(x)
    x = x + attention(layer.self_attn, y, y)
    return x + layer.linear2(gelu(layer.linear1(layer.norm2(x))))


def check_double_backward(module):
    """Second derivatives with respect to the tokens are right, in rows that miss inputs and padding alike."""
    features, rows = ragged(), torch.tensor([0, 2, 5])
    features = {n: f.take(rows) for n, f in features.items()}

    def fuse(x):
        given = {**features, "text": Features(x, features["text"].pooled, features["text"].mask)}
        out = module(given, PRESENT[rows])
        return out.pooled.tanh(), out.tokens[out.mask].tanh()

    with sdpa_kernel(SDPBackend.MATH):
        assert torch.autograd.gradgradcheck(fuse, (features["text"].tokens.clone().requires_grad_(),))


def check_garbage(module):
    """Padded and absent slots hold NaN or Inf: outputs and gradients stay the same, bit for bit."""
    features, outs, grads = ragged(), [], []
    for filler in (0.0, float("nan"), float("inf")):
        given = {}
        for i, (name, f) in enumerate(features.items()):
            valid = f.mask & PRESENT[:, [i]]
            given[name] = Features(f.tokens.masked_fill(~valid[..., None], filler).requires_grad_(), f.pooled, f.mask)
        out = module(given, PRESENT)
        outs.append(out)
        leaves = [*(f.tokens for f in given.values()), *module.parameters()]
        grads.append(torch.autograd.grad(out.pooled.sin().sum() + out.tokens.sin().sum(), leaves))
    assert outs[0].pooled.isfinite().all()
    for out, grad in zip(outs[1:], grads[1:], strict=True):
        assert torch.equal(out.pooled, outs[0].pooled)
        assert torch.equal(out.tokens, outs[0].tokens)
        assert all(torch.equal(a, b) for a, b in zip(grad, grads[0], strict=True))


def check_gradients(module):
    """Over batches that miss each input in turn, the pooled vector alone reaches every parameter."""
    features, hit = ragged(), set()
    for missing in range(-1, len(WIDTHS)):
        module.zero_grad()
        module(features, torch.arange(len(WIDTHS)).expand(len(PRESENT), -1) != missing).pooled.sin().sum().backward()
        assert all(p.grad is not None for p in module.parameters())
        hit |= {n for n, p in module.named_parameters() if p.grad.abs().max() > 1e-12}
    assert hit == {n for n, _ in module.named_parameters()}
