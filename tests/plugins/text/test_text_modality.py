import random

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Normal
from torch.nn.functional import one_hot
from transformers import ByT5Tokenizer

from fusion_engine import DataError, DistributionLikelihood, Noise, Signal
from fusion_engine_text.modality import Text

TEXTS = ["", "seven", "a  b ", "</s>", " <pad> x", "déjà vu", "数字", "\n\t\x00"]


def by_hand(text: str, length: int) -> list[int]:
    """UTF-8 bytes behind three special tokens, the end, padding."""
    ids = [byte + 3 for byte in text.encode()] + [1]
    return ids + [0] * (length - len(ids))


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_bytes_an_end_and_padding(text):
    modality = Text(length=14)
    signal = modality.prepare(text)
    assert signal.data.tolist() == by_hand(text, 14)
    assert signal.mask is None
    assert modality.restore(modality.collate([signal])) == [text]


def test_any_unicode_comes_back():
    draw = random.Random(0)
    texts = ["".join(chr(draw.choice([draw.randrange(0xD800), draw.randrange(0xE000, 0x110000)])) for _ in range(9))]
    modality = Text(**Text().fit(texts))
    assert modality.length == len(texts[0].encode()) + 1
    assert modality.restore(modality.collate([modality.prepare(t) for t in texts])) == texts


def test_special_tokens_are_the_tokenizers():
    tokenizer, modality = ByT5Tokenizer(extra_ids=0), Text()
    assert (modality.vocabulary, modality.padding, modality.end) == (
        len(tokenizer),
        tokenizer.pad_token_id,
        tokenizer.eos_token_id,
    )


def test_length_is_learned_as_the_longest_texts_or_kept():
    assert Text().length == 16
    assert Text().fit(iter(["one", np.str_("three"), ""])) == {"length": 6}
    assert Text().fit(["é"]) == {"length": 3}
    assert Text().fit([""]) == {"length": 2}
    assert Text(length=9).fit(["one"]) == {"length": 9}
    assert Text(length=9).size == 9


def test_what_does_not_fit_is_refused_in_words():
    with pytest.raises(DataError, match=r"'seven' is too long(.|\n)*at most 5 tokens: 4 bytes(.|\n)*6 tokens"):
        Text(length=5).prepare("seven")
    with pytest.raises(DataError, match="too long"):
        Text(length=5).fit(["one", "seven"])
    with pytest.raises(DataError, match="no texts"):
        Text().fit([])
    with pytest.raises(DataError, match=r"a text is a string(.|\n)*int: 7"):
        Text().prepare(7)
    with pytest.raises(DataError, match="half of a character"):
        Text().prepare("a\ud800")
    assert Text(length=5).prepare("four").data[-1] == 1


def test_restore_cuts_at_the_first_end_and_marks_what_is_no_text():
    modality = Text(length=6)
    ids = torch.tensor([[100, 1, 101, 1, 102, 0], [100, 0, 2, 101, 102, 103], [0xC3 + 3, 100, 1, 0, 0, 0]])
    expected = ["a", "a��bcd", "�a"]
    assert modality.restore(Signal(ids)) == expected
    assert modality.restore(Signal(one_hot(ids, 259).float() * 0.6 + 0.001)) == expected
    assert [m.content.decode() for m in modality.render(Signal(ids))] == expected
    assert modality.render(Signal(ids))[0].mime == "text/plain"


def test_examples_are_readable_and_of_differing_length():
    texts = Text(length=12).restore(Text(length=12).example(20))
    assert all(t.isascii() and t.isprintable() for t in texts)
    assert len(texts[0]) == 11
    assert len({len(t) for t in texts}) > 5
    assert Text(length=12).restore(Text(length=12).example(1)) == texts[:1]


def test_independent_tokens_are_relaxed_straight_through():
    modality, noise = Text(length=2, temperature=0.5), Noise.of(4, 3)
    logits = torch.randn(3, 4, 2, 259, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = modality.relax(DistributionLikelihood(Categorical(logits=logits), sample_axes=1), noise).data
    g = -(-noise.uniform(2, 259, lead=[3]).log()).log()
    normal = logits.log_softmax(-1)
    assert torch.equal(found.argmax(-1), (normal + g).argmax(-1))
    assert set(found.unique().tolist()) == {0.0, 1.0}
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    soft = ((normal + g) / 0.5).softmax(-1)
    (grad,), (wanted,) = (torch.autograd.grad((x * weights).sum(), logits) for x in (found, soft))
    torch.testing.assert_close(grad, wanted)


def test_a_likelihood_of_no_tokens_gives_its_mean():
    likelihood = DistributionLikelihood(Normal(torch.ones(2, 3), 1.0))
    assert torch.equal(Text().relax(likelihood, Noise.of(2)).data, torch.ones(2, 3))
