import pytest
import torch
from torch.testing import assert_close

from fusion_engine import BuildError, CategoryModality, Features, Media, Signal, Widths
from fusion_engine_fusions.classification import ClassificationHead
from fusion_engine_fusions.score import ScoreHead

WIDTHS = {"image": Widths(5, 3), "keys": Widths(4, 2)}
PRESENT = torch.tensor([[1, 1], [1, 0], [0, 1], [0, 0]]).bool()


class Digit(CategoryModality):
    encoder = decoder = "none"

    def __init__(self, *classes):
        self.classes = classes

    def fit(self, samples):
        return {}

    def prepare(self, raw):
        return Signal(torch.tensor(self.classes.index(raw)))

    def restore(self, signal):
        return [self.classes[i] for i in signal.data]

    def example(self, b):
        return Signal(torch.randint(len(self.classes), (b,)))

    def render(self, signal):
        return [Media("text/plain", str(x).encode()) for x in self.restore(signal)]


def vectors():
    torch.manual_seed(0)
    return [torch.randn(4, w.pooled) for w in WIDTHS.values()]


def named(xs):
    return dict(zip(WIDTHS, map(Features.of_pooled, xs), strict=True))


def heads(hidden):
    torch.manual_seed(1)
    return [ScoreHead(WIDTHS, hidden=hidden), ClassificationHead(WIDTHS, Digit("a", "b", "c"), hidden=hidden)]


def test_what_they_are():
    score, classes = heads(0)
    assert (score.realness, score.predicts, score.outputs, score.modality) == (True, False, 1, None)
    assert (classes.realness, classes.predicts, classes.outputs) == (False, True, 3)


@pytest.mark.parametrize("which", [0, 1])
def test_equals_a_matmul_written_by_hand(which):
    x = torch.cat([v * PRESENT[:, [i]] for i, v in enumerate(vectors())], -1)
    linear = heads(0)[which]
    assert_close(linear(named(vectors()), PRESENT), x @ linear.mlp[0].weight.T + linear.mlp[0].bias)
    deep = heads(8)[which]
    inner = x @ deep.mlp[0].weight.T + deep.mlp[0].bias
    inner = torch.where(inner > 0, inner, inner * (0.2 if which == 0 else 0.0))
    assert_close(deep(named(vectors()), PRESENT), inner @ deep.mlp[2].weight.T + deep.mlp[2].bias)


@pytest.mark.parametrize("which", [0, 1])
def test_absent_is_zero_whatever_it_holds(which):
    head = heads(8)[which]
    grads, outs = [], []
    for filler in (0.0, float("nan")):
        leaves = [v.masked_fill(~PRESENT[:, [i]], filler).requires_grad_() for i, v in enumerate(vectors())]
        outs.append(head(named(leaves), PRESENT))
        grads.append(torch.autograd.grad(outs[-1].sum(), [*leaves, *head.parameters()]))
    assert torch.equal(*outs)
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_a_score_does_not_see_what_is_present_but_only_content():
    score = heads(8)[0]
    zeros = [v * PRESENT[:, [i]] for i, v in enumerate(vectors())]
    assert torch.equal(score(named(zeros), PRESENT), score(named(zeros), torch.ones_like(PRESENT)))


def test_a_batch_of_one_keeps_its_axis():
    for head in heads(4):
        whole = head(named(vectors()), PRESENT)
        one = head(named([v[1:2] for v in vectors()]), PRESENT[1:2])
        assert one.shape == (1, head.outputs)
        assert_close(one, whole[1:2])


def test_refuses_a_category_without_classes():
    with pytest.raises(BuildError, match="no classes"):
        ClassificationHead(WIDTHS, Digit())
