"""What phrases mean, checked against a second reading of English: patterns, and predicates tried on every digit."""

import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from fusion_engine_digits.phrases import ONE, SEVERAL, meaning, phrase

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
X = rf"({'|'.join(NAMES)}|\d)"
PATTERNS: list[tuple[str, Callable[..., bool]]] = [
    (rf"(?:(?:the )?(?:digit|number) |figure |it says )?{X}", lambda d, x: d == x),
    (rf"(?:it is |this is )(?:an? )?{X}|(?:i see )?an? {X}", lambda d, x: d == x),
    (r"odd|an odd (?:digit|number|one)|not even", lambda d: d % 2 == 1),
    (r"even|an even (?:digit|number|one)|not odd", lambda d: d % 2 == 0),
    (r"prime|a prime(?: digit| number)?", lambda d: d > 1 and all(d % k for k in range(2, d))),
    (r"square|a square (?:digit|number)|a perfect square", lambda d: any(k * k == d for k in range(10))),
    (rf"(?:(?:more|greater|larger) than|over|above) {X}", lambda d, x: d > x),
    (rf"(?:(?:less|lower|smaller) than|under|below) {X}", lambda d, x: d < x),
    (rf"(?:at least|no less than) {X}|{X} or (?:more|above)", lambda d, x: d >= x),
    (rf"(?:at most|no more than) {X}|{X} or (?:less|below)", lambda d, x: d <= x),
    (rf"(?:a multiple of|divisible by) {X}", lambda d, x: any(x * k == d for k in range(10))),
    (rf"{X} or {X}", lambda d, x, y: d in (x, y)),
    (rf"from {X} to {X}", lambda d, x, y: x <= d <= y),
    (rf"not {X}", lambda d, x: d != x),
]


def read_again(text: str) -> frozenset[int]:
    """Read a phrase by the one pattern that it fits; the pattern's groups are the numbers in it."""
    (found,) = [(match, true) for pattern, true in PATTERNS if (match := re.fullmatch(pattern, text))]
    match, true = found
    numbers = [NAMES.index(g) if g in NAMES else int(g) for g in match.groups() if g is not None]
    return frozenset(d for d in range(10) if true(d, *numbers))


def texts(kinds: tuple[dict[str, frozenset[int]], ...]) -> list[str]:
    return [text for kind in kinds for text in kind]


def test_every_phrase_means_what_a_second_reading_says() -> None:
    for text in texts(ONE) + texts(SEVERAL):
        assert meaning(text) == read_again(text), text


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("seven", {7}),
        ("an 8", {8}),
        ("it is a seven", {7}),
        ("an odd digit", {1, 3, 5, 7, 9}),
        ("more than four", {5, 6, 7, 8, 9}),
        ("less than three", {0, 1, 2}),
        ("at least seven", {7, 8, 9}),
        ("a multiple of three", {0, 3, 6, 9}),
        ("a prime digit", {2, 3, 5, 7}),
        ("four or five", {4, 5}),
        ("from 3 to 5", {3, 4, 5}),
        ("not two", {0, 1, 3, 4, 5, 6, 7, 8, 9}),
    ],
)
def test_meanings_by_hand(text: str, digits: set[int]) -> None:
    assert meaning(text) == digits


def test_form_and_sizes() -> None:
    every = texts(ONE) + texts(SEVERAL)
    assert len(set(every)) == len(every)
    assert all(text.isascii() and text == text.lower() == text.strip() and len(text) <= 20 for text in every)
    assert {len(meaning(text)) for text in texts(ONE)} == {1}
    assert {len(meaning(text)) for text in texts(SEVERAL)} == set(range(2, 10))


def test_articles() -> None:
    every = texts(ONE)
    assert {"an eight", "an 8", "a nine", "it is an 8"} <= set(every)
    assert not [t for t in every if re.search(r"\ban (?!eight|8)|\ba (eight|8)", t)]


def test_what_is_malformed_means_nothing() -> None:
    for text in ("", " ", "Seven", "seven ", " seven", "sevn", "the  digit 7", "a eight", "more than", "10", "seven\n"):
        assert meaning(text) == frozenset()
    for text in ("less than one", "more than nine", "at least zero", "a multiple of zero", "divisible by 1", "3 or 3"):
        assert meaning(text) == frozenset()  # true of one digit, of all, or of none
    for text in ("from 5 to 3", "from 0 to 9", "four or 5", "from three to 5", "x or more", "not even seven"):
        assert meaning(text) == frozenset()


def test_no_letter_can_be_left_out_of_a_phrase_unless_that_is_a_phrase_too() -> None:
    every = set(texts(ONE) + texts(SEVERAL))
    for text in every:
        for i in range(len(text)):
            shorter = text[:i] + text[i + 1 :]
            assert meaning(shorter) == (read_again(shorter) if shorter in every else frozenset())


@pytest.mark.parametrize("label", range(10))
def test_drawn_phrases_are_true_and_of_the_kind_asked_for(label: int) -> None:
    rng = np.random.default_rng(label)
    exact = Counter(phrase(label, rng, 0.0) for _ in range(2000))
    several = Counter(phrase(label, rng, 1.0) for _ in range(5000))
    assert set(exact) == {t for t in texts(ONE) if read_again(t) == {label}}
    assert all(label in read_again(t) and t in texts(SEVERAL) for t in several)
    true_of_it = [{t for t in kind if label in read_again(t)} for kind in SEVERAL]
    shares = [sum(several[t] for t in kind) / 5000 for kind in true_of_it if kind]
    assert shares == pytest.approx([1 / len(shares)] * len(shares), abs=0.03)  # five deviations
    assert sum(shares) == pytest.approx(1)


def test_the_share_of_ambiguous_phrases() -> None:
    rng = np.random.default_rng(0)
    drawn = [phrase(i % 10, rng, 0.3) for i in range(20_000)]
    assert np.mean([len(meaning(t)) > 1 for t in drawn]) == pytest.approx(0.3, abs=0.015)


def test_phrases_repeat_with_the_state_of_their_generator() -> None:
    def drawn(seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        return [phrase(i % 10, rng, 0.5) for i in range(50)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
