import json
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from fusion_engine import ConfigError, DataError, Features, Noise, Registry, Samples, Signal, Widths
from fusion_engine_tabular import register_components
from fusion_engine_tabular.embedding import EmbeddingEncoder
from fusion_engine_tabular.logits import LogitsDecoder
from fusion_engine_tabular.modality import Category


def test_plugin_registers_its_components_under_its_name():
    registry = Registry("tabular")
    register_components(registry)
    assert sorted(registry.entries) == [
        "dataset/tabular.gaussians",
        "decoder/tabular.generator",
        "decoder/tabular.logits",
        "decoder/tabular.mlp",
        "decoder/tabular.numbers",
        "decoder/tabular.tags",
        "encoder/tabular.embedding",
        "encoder/tabular.mlp",
        "encoder/tabular.numbers",
        "encoder/tabular.tags",
        "modality/tabular.category",
        "modality/tabular.number",
        "modality/tabular.tags",
    ]
    assert {Category.encoder, Category.decoder} <= set(registry.entries)


@pytest.mark.parametrize(
    ("samples", "classes"),
    [
        ([3, 1, 2, 1], [1, 2, 3]),
        (["b", "a", "b"], ["a", "b"]),
        ([True, False], [False, True]),
        ([np.int64(5), torch.tensor(4), 3.0], [3, 4, 5]),
        ([np.str_("x"), "y"], ["x", "y"]),
    ],
)
def test_fit_learns_sorted_plain_labels_and_round_trips(samples, classes):
    learned = Category().fit(iter(samples))
    assert learned == {"classes": classes}
    assert [type(c) for c in json.loads(json.dumps(learned))["classes"]] == [type(c) for c in learned["classes"]]
    modality = Category(**learned)
    assert modality.fit(samples) == learned
    signal = modality.collate([modality.prepare(s) for s in samples])
    assert signal.data.dtype == torch.int64
    assert modality.restore(signal) == [s.item() if isinstance(s, torch.Tensor) else s for s in samples]


def test_fit_keeps_the_classes_that_are_set():
    assert Category(classes=["z", "a"]).fit(["a"]) == {"classes": ["z", "a"]}
    with pytest.raises(DataError, match=r"(?s)'zebre'.*'zebra'"):
        Category(classes=["zebra", "apple"]).fit(["zebre"])


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match=r"(?s)7 is none of the classes.*0, 1, 2"):
        Category(classes=[0, 1, 2]).prepare(7)
    with pytest.raises(DataError, match="int and str"):
        Category().fit([1, "a"])
    with pytest.raises(DataError, match="no labels"):
        Category().fit([])
    for raw in (float("nan"), 0.5, None, [1]):
        with pytest.raises(DataError, match="None for a missing"):
            Category().fit([raw])
    with pytest.raises(ConfigError, match="twice"):
        Category(classes=["a", "a"])


def test_soft_rows_are_read_as_the_likeliest_and_written_as_text():
    modality = Category(classes=["a", "b"])
    soft = Signal(torch.tensor([[0.4, 0.6], [0.9, 0.1]]))
    assert modality.restore(soft) == ["b", "a"]
    assert [(m.mime, m.content) for m in modality.render(soft)] == [("text/plain", b"b"), ("text/plain", b"a")]


def test_without_config_it_has_an_example_and_leaves_the_random_state():
    state = torch.get_rng_state()
    assert set(Category().example(50).data.tolist()) == {0, 1, 2}
    assert Category().blank().data.shape == ()
    assert torch.equal(state, torch.get_rng_state())


def test_one_hots_and_indices_have_the_same_embedding():
    torch.manual_seed(0)
    encoder = EmbeddingEncoder(Category(classes=list("abcd")), width=5)
    ids = torch.tensor([3, 0, 2])
    hard = encoder(Signal(ids))
    assert torch.equal(hard.pooled, encoder.weight[ids])
    assert torch.equal(hard.pooled, encoder(Signal(one_hot(ids, 4).float())).pooled)
    mixed = encoder(Signal(torch.tensor([[0.25, 0.75, 0.0, 0.0]]))).pooled[0]
    torch.testing.assert_close(mixed, 0.25 * encoder.weight[0] + 0.75 * encoder.weight[1])
    assert hard.widths == encoder.widths


def test_log_prob_is_the_log_softmax_on_every_sample_axis():
    torch.manual_seed(0)
    decoder = LogitsDecoder(2, Category(classes=list("abc")), {"c": Widths(1, 3)}, width=4)
    z, condition = torch.randn(2, 5, 4, 2), torch.randn(4, 3)
    ids = torch.tensor([0, 2, 1, 1])
    got = decoder(z, {"c": Features.of_pooled(condition)}).log_prob(Signal(ids))
    for i in range(2):
        for j in range(5):
            logits = decoder.body(torch.cat([z[i, j], condition], 1))
            torch.testing.assert_close(got[i, j], logits.log_softmax(-1)[torch.arange(4), ids])
    got.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in decoder.parameters())


def test_samples_are_indices_with_the_right_frequencies():
    decoder = LogitsDecoder(1, Category(classes=list("abc")))
    with torch.no_grad():
        for p in decoder.parameters():
            p.zero_()
        decoder.body[-1].bias.copy_(torch.tensor([0.2, 0.5, 0.3]).log())
    likelihood = decoder(torch.zeros(2, 5000, 1), {})
    drawn = likelihood.sample(Noise.of(5000)).data
    assert drawn.shape == (2, 5000)
    shares = torch.bincount(drawn.flatten(), minlength=3) / drawn.numel()
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.5, 0.3]), atol=0.02, rtol=0)
    assert likelihood.mean.data.unique().tolist() == [1]


def test_relaxed_samples_are_one_hot_with_the_gradient_of_the_gumbel_softmax():
    torch.manual_seed(0)
    modality = Category(classes=list("abc"), temperature=0.5)
    decoder = LogitsDecoder(2, modality)
    likelihood = decoder(torch.randn(4, 2), {})
    noise = Noise.of(4, seed=3)
    relaxed = modality.relax(likelihood, noise)
    assert torch.equal(relaxed.data.sort(-1).values, torch.tensor([0.0, 0.0, 1.0]).expand(4, 3))

    logits = likelihood.distribution.logits.detach().requires_grad_()
    soft = torch.zeros(4, 3)
    for b in range(4):
        gumbel = torch.tensor([-math.log(-math.log(float(u))) for u in noise.uniform(3)[b]])
        soft[b] = ((logits[b] + gumbel) / 0.5).softmax(-1)
    direction = torch.randn(4, 3)
    want = torch.autograd.grad((soft * direction).sum(), logits)[0]
    got = torch.autograd.grad((relaxed.data * direction).sum(), likelihood.distribution.logits)[0]
    torch.testing.assert_close(got, want)
    assert torch.equal(relaxed.data.argmax(-1), soft.argmax(-1))


def test_relaxed_samples_have_the_frequencies_of_the_distribution():
    modality = Category(classes=list("abc"))
    decoder = LogitsDecoder(1, modality)
    with torch.no_grad():
        for p in decoder.parameters():
            p.zero_()
        decoder.body[-1].bias.copy_(torch.tensor([0.2, 0.5, 0.3]).log())
    state = torch.get_rng_state()
    relaxed = modality.relax(decoder(torch.zeros(2, 5000, 1), {}), Noise.of(5000))
    assert torch.equal(state, torch.get_rng_state())
    torch.testing.assert_close(relaxed.data.mean((0, 1)), torch.tensor([0.2, 0.5, 0.3]), atol=0.02, rtol=0)


def test_relaxing_samples_without_a_density_gives_them_back():
    soft = Signal(torch.tensor([[0.1, 0.2, 0.7]]))
    assert torch.equal(Category().relax(Samples(soft), Noise.of(1)).data, soft.data)
