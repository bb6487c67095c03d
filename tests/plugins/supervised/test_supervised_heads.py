import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from fusion_engine import BuildError, Features, FusionError, Widths
from fusion_engine_supervised.cumulative import log_probabilities
from fusion_engine_supervised.multi_label import MultiLabelHead
from fusion_engine_supervised.ordinal import OrdinalHead
from fusion_engine_supervised.regression import RegressionHead
from fusion_engine_tabular.modality import Category
from fusion_engine_tabular.number import Number
from fusion_engine_tabular.tags import Tags

WIDTHS = {"image": Widths(5, 3), "keys": Widths(4, 2)}
PRESENT = torch.tensor([[1, 1], [1, 0], [0, 1], [0, 0]]).bool()


def inputs():
    torch.manual_seed(0)
    vectors = [torch.randn(4, w.pooled).double() for w in WIDTHS.values()]
    concatenated = torch.cat([v * PRESENT[:, [i]] for i, v in enumerate(vectors)], -1)
    spoiled = [v.masked_fill(~PRESENT[:, [i]], torch.nan) for i, v in enumerate(vectors)]
    return dict(zip(WIDTHS, map(Features.of_pooled, spoiled), strict=True)), concatenated


def written(mlp, x):
    """The body by hand, row by row."""
    rows = []
    for row in x:
        h = mlp[0].weight @ row + (0 if mlp[0].bias is None else mlp[0].bias)
        if len(mlp) > 1:
            h = mlp[2].weight @ h.clamp(min=0) + (0 if mlp[2].bias is None else mlp[2].bias)
        rows.append(h)
    return torch.stack(rows)


@pytest.mark.parametrize("hidden", [0, 6])
def test_outputs_are_those_of_a_loop_over_rows_whatever_missing_inputs_hold(hidden):
    features, x = inputs()
    tags = MultiLabelHead(WIDTHS, Tags(classes=list("abcd")), hidden=hidden).double()
    numbers = RegressionHead(WIDTHS, Number(centre=[0.0, 1.0]), hidden=hidden).double()
    ranks = OrdinalHead(WIDTHS, Category(classes=list("abcde")), hidden=hidden).double()
    assert_close(tags(features, PRESENT), written(tags.mlp, x))
    assert_close(numbers(features, PRESENT), written(numbers.mlp, x))
    theta = [float(ranks.raw[0].detach())]
    for raw in ranks.raw[1:].tolist():
        theta.append(theta[-1] + math.log1p(math.exp(raw)))
    assert_close(ranks(features, PRESENT), written(ranks.mlp, x) - torch.tensor(theta).double())
    assert [head.outputs for head in (tags, numbers, ranks)] == [4, 2, 4]


def test_tags_are_decided_by_the_threshold():
    modality = Tags(classes=["a", "b", "c"])
    output = torch.tensor([[2.0, 0.0, -1.0], [-3.0, -3.0, -3.0]])
    half, low = (MultiLabelHead(WIDTHS, modality, threshold=t) for t in (0.5, 0.2))
    assert_close(half.probabilities(output)[0], torch.tensor([1 / (1 + math.exp(-x)) for x in (2.0, 0.0, -1.0)]))
    assert modality.restore(half.decide(output)) == [["a", "b"], []]
    assert modality.restore(low.decide(output)) == [["a", "b", "c"], []]


def test_numbers_are_decided_in_raw_units_and_have_no_probabilities():
    modality = Number(centre=[10.0, 0.0], deviation=[2.0, 100.0])
    head = RegressionHead(WIDTHS, modality)
    assert modality.restore(head.decide(torch.tensor([[0.5, -1.0]]))) == [[11.0, -100.0]]
    with pytest.raises(FusionError, match=r"(?s)no class probabilities.*use predict"):
        head.probabilities(torch.zeros(1, 2))


def test_cutpoints_start_at_equal_shares_and_increase_whatever_the_parameters():
    head = OrdinalHead(WIDTHS, Category(classes=list("abcd")))
    assert_close(head.cutpoints.sigmoid(), torch.tensor([0.25, 0.5, 0.75]))
    assert_close(head.probabilities(-head.cutpoints[None]), torch.full([1, 4], 0.25))
    with torch.no_grad():
        head.raw.copy_(torch.tensor([5.0, -8.0, -3.0]))
    assert bool((head.cutpoints.diff() > 0).all())
    two = OrdinalHead(WIDTHS, Category(classes=["no", "yes"]))
    assert_close(two.probabilities(torch.tensor([[1.5]]))[0, 1], torch.tensor(1.5).sigmoid())
    with pytest.raises(BuildError, match="at least two"):
        OrdinalHead(WIDTHS, Category(classes=["only"]))


def test_probabilities_of_ordered_classes_are_differences_of_the_logistic_distribution():
    """P(y = j) = P(theta_{j-1} < f + e <= theta_j), e logistic: counted over many draws, and by the formula."""
    f, theta = 0.4, np.array([-1.0, 0.3, 2.0])
    got = log_probabilities(torch.tensor(f - theta)[None]).exp()[0].numpy()
    cumulative = 1 / (1 + np.exp(-(theta - f)))
    np.testing.assert_allclose(got, np.diff([0.0, *cumulative, 1.0]), rtol=1e-12)
    drawn = f + np.random.default_rng(0).logistic(size=200_000)
    np.testing.assert_allclose(got, np.bincount(np.searchsorted(theta, drawn), minlength=4) / 200_000, atol=0.005)


def test_log_probabilities_stay_finite_far_out_where_differences_cancel():
    logits = (torch.tensor([[-200.0], [80.0], [3e4]]) - torch.tensor([0.0, 1.0, 2.5])).requires_grad_()
    log_p = log_probabilities(logits)
    log_p.sum().backward()
    assert bool(log_p.isfinite().all())
    assert bool(logits.grad.isfinite().all())
    # sigmoid(79) - sigmoid(80) is 0 in single precision; its logarithm is -79 + log(1 - 1 / e), to first order
    assert float(log_p[1, 1].detach()) == pytest.approx(-79 + math.log(1 - math.exp(-1)), rel=1e-6)
