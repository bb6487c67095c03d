import pytest
import torch

from fusion_engine import DataError
from fusion_engine.evaluation import (
    agreement,
    agreement_of_sets,
    chance_of_sets,
    conditional_coherence,
    joint_coherence,
    wilson,
)

A, B, C = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 2, 0]), torch.tensor([0, 9, 2, 3])


def test_agreement() -> None:
    assert agreement(A, B) == 0.75
    assert agreement(A, A) == 1


def test_conditional_coherence_reads_the_largest_logit() -> None:
    logits = torch.tensor([[0.1, -2.0, 0.0], [5.0, 6.0, -1.0], [-3.0, -2.0, -4.0]])
    assert conditional_coherence(logits, torch.tensor([0, 1, 2])) == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="NaN"):
        conditional_coherence(logits.log(), torch.tensor([0, 1, 2]))


def test_joint_coherence_wants_all_to_agree() -> None:
    assert joint_coherence({"image": A, "strokes": B, "audio": C}) == 0.5
    assert joint_coherence({"image": A, "strokes": B}) == agreement(A, B)
    assert joint_coherence({"image": A}) == 1


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(DataError, match="differ in number"):
        joint_coherence({"image": A, "strokes": B[:3]})
    with pytest.raises(DataError, match="no rows"):
        agreement(A[:0], B[:0])
    with pytest.raises(DataError, match="no predictions"):
        joint_coherence({})


def test_wilson_against_published_values() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (hits, n), (low, high) in published.items():
        found = wilson(hits / n, n)
        assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)
    assert wilson(1.0, 20).low == pytest.approx(1 - 0.1611, abs=6e-5)
    assert wilson(1.0, 20).high == 1
    narrow = wilson(0.5, 100, level=0.5)
    assert narrow.high - narrow.low == pytest.approx(2 * 0.6745 * 0.05, rel=0.01)
    with pytest.raises(DataError, match="share"):
        wilson(0.5, 0)


def one_hots(labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels, 10).bool()


def test_sets_of_one_label_agree_as_labels_do() -> None:
    assert agreement_of_sets(one_hots(A), one_hots(B)) == agreement(A, B)
    expected = joint_coherence({"image": A, "strokes": B, "audio": C})
    assert agreement_of_sets(one_hots(A), one_hots(B), one_hots(C)) == expected


def test_a_phrase_is_met_by_any_digit_that_it_names() -> None:
    odd = torch.arange(10) % 2 == 1
    phrases = odd.expand(4, 10)
    assert agreement_of_sets(one_hots(A), phrases) == 0.5
    assert agreement_of_sets(torch.zeros(4, 10).bool(), phrases) == 0  # a malformed one meets nothing
    assert agreement_of_sets(one_hots(A), one_hots(B), phrases) == 0.25


def test_chance_is_what_random_pairs_score() -> None:
    g = torch.Generator().manual_seed(0)
    digits, others = torch.randint(10, (2, 400), generator=g)
    expected = sum(float((digits == c).double().mean() * (others == c).double().mean()) for c in range(10))
    assert chance_of_sets(one_hots(digits), one_hots(others), draws=50) == pytest.approx(expected, abs=0.01)
    odd = (torch.arange(10) % 2 == 1).expand(400, 10)
    assert chance_of_sets(one_hots(digits), odd) == pytest.approx(float((digits % 2 == 1).double().mean()))


def test_sets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="do not fit"):
        agreement_of_sets(one_hots(A), one_hots(A[:2]))
    with pytest.raises(DataError, match="do not fit"):
        chance_of_sets(one_hots(A[:0]))
