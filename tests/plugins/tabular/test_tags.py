import numpy as np
import pytest
import torch
from torch.testing import assert_close

from fusion_engine import ConfigError, DataError, Features, Noise, Samples, Signal, Widths
from fusion_engine_tabular.modality import Category
from fusion_engine_tabular.tag_networks import TagsDecoder, TagsEncoder
from fusion_engine_tabular.tags import Tags


def test_fit_learns_the_sorted_union_and_sets_come_back_as_sorted_lists():
    raw = [{"dog", "cat"}, [], ("fox",), np.array(["dog", "ant"])]
    learned = Tags().fit(iter(raw))
    assert learned == {"classes": ["ant", "cat", "dog", "fox"]}
    modality = Tags(**learned)
    signal = modality.collate([modality.prepare(r) for r in raw])
    assert signal.data.tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1], [1, 0, 1, 0]]
    assert modality.restore(signal) == [["cat", "dog"], [], ["fox"], ["ant", "dog"]]
    assert [m.content for m in modality.render(signal)] == [b"cat, dog", b"-", b"fox", b"ant, dog"]


def test_the_order_of_given_classes_stays_also_of_ordered_categories():
    assert Tags(classes=["z", "a"]).fit([["a"]]) == {"classes": ["z", "a"]}
    assert Tags(classes=["z", "a"]).restore(Signal(torch.ones(1, 2))) == [["z", "a"]]
    levels = ["low", "middle", "high"]
    ordered = Category(classes=levels)
    assert ordered.fit(["high", "low"]) == {"classes": levels}
    assert [int(ordered.prepare(c).data) for c in levels] == [0, 1, 2]


def test_probabilities_of_a_half_or_more_are_tags():
    assert Tags(classes=list("ab")).restore(Signal(torch.tensor([[0.5, 0.49], [0.2, 0.9]]))) == [["a"], ["b"]]


def test_what_is_no_set_of_tags_is_refused_in_words():
    for raw, words in [
        ("dog", "a set or a list"),
        (3, "a set or a list"),
        ([0.5], "a string, an integer"),
        ([7], r"(?s)7 is none of the classes.*0, 1, 2"),
    ]:
        with pytest.raises(DataError, match=words):
            Tags(classes=[0, 1, 2]).prepare(raw)
    for raw, words in [([], "no tags"), ([[], set()], "no labels"), ([[1], ["a"]], "several types")]:
        with pytest.raises(DataError, match=words):
            Tags().fit(raw)
    with pytest.raises(ConfigError, match="twice"):
        Tags(classes=["a", "a"])


def test_the_encoder_adds_up_a_vector_a_tag():
    torch.manual_seed(0)
    encoder = TagsEncoder(Tags(classes=list("abc")), width=4, hidden=6)
    first, _, last = encoder.body
    for tags, x in [([0, 2], [1.0, 0.0, 1.0]), ([], [0.0, 0.0, 0.0])]:
        inner = first.bias + sum((first.weight[:, i] for i in tags), torch.zeros(6))
        inner = torch.where(inner > 0, inner, 0.2 * inner)
        assert_close(encoder(Signal(torch.tensor([x]))).pooled[0], last.weight @ inner + last.bias)


def test_log_prob_sums_over_tags_on_every_sample_axis():
    torch.manual_seed(0)
    decoder = TagsDecoder(2, Tags(classes=list("abc")), {"c": Widths(1, 3)}, width=4).double()
    z, condition = torch.randn(2, 4, 2).double(), torch.randn(4, 3).double()
    x = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]]).double()
    got = decoder(z, {"c": Features.of_pooled(condition)}).log_prob(Signal(x))
    for i in range(2):
        p = 1 / (1 + (-decoder.body(torch.cat([z[i], condition], 1))).exp())
        assert_close(got[i], torch.where(x == 1, p, 1 - p).log().sum(-1))


def test_samples_and_relaxed_samples_have_the_frequencies_of_the_tags():
    modality = Tags(classes=list("ab"))
    decoder = TagsDecoder(1, modality)
    with torch.no_grad():
        for p in decoder.parameters():
            p.zero_()
        decoder.body[-1].bias.copy_(torch.tensor([0.2, 0.7]).logit())
    likelihood = decoder(torch.zeros(2, 5000, 1), {})
    for drawn in (likelihood.sample(Noise.of(5000)), modality.relax(likelihood, Noise.of(5000, 1))):
        assert set(drawn.data.unique().tolist()) == {0.0, 1.0}
        assert_close(drawn.data.mean((0, 1)), torch.tensor([0.2, 0.7]), atol=0.02, rtol=0)


def test_relaxed_samples_have_the_gradient_of_the_concrete_distribution():
    torch.manual_seed(0)
    modality = Tags(classes=list("abc"), temperature=0.5)
    likelihood = TagsDecoder(2, modality)(torch.randn(4, 2), {})
    noise, direction = Noise.of(4, seed=3), torch.randn(4, 3)
    relaxed = modality.relax(likelihood, noise).data
    logits = likelihood.distribution.logits.detach().requires_grad_()
    u = noise.uniform(3)
    soft = 1 / (1 + ((1 - u) / u) ** 2 * (-2 * logits).exp())
    want = torch.autograd.grad((soft * direction).sum(), logits)[0]
    got = torch.autograd.grad((relaxed * direction).sum(), likelihood.distribution.logits)[0]
    assert_close(got, want)
    assert torch.equal(relaxed, (soft > 0.5).float())
    given = Signal(torch.tensor([[0.1, 0.7, 1.0]]))
    assert torch.equal(modality.relax(Samples(given), noise).data, given.data)
