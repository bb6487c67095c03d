"""Phrases for digits: some name one ("the digit 7"), others a set that it is in ("more than four").

The grammar is finite and small, so it is written out once: every phrase is a key of one table, and its meaning is the
value. Phrases are lower-case ASCII of at most 20 bytes.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

Phrases: TypeAlias = dict[str, frozenset[int]]
"""The digits that each phrase names."""

DIGITS = range(10)
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUMERALS = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")

_ONE = (
    *("{x}", "digit {x}", "the digit {x}", "number {x}", "the number {x}", "figure {x}"),
    *("{a} {x}", "it is {x}", "it is {a} {x}", "this is {x}", "this is {a} {x}", "i see {a} {x}", "it says {x}"),
)
_ODD = ("odd", "an odd digit", "an odd number", "an odd one", "not even")
_EVEN = ("even", "an even digit", "an even number", "an even one", "not odd")
_PRIME = ("prime", "a prime digit", "a prime number", "a prime")
_SQUARE = ("square", "a square digit", "a square number", "a perfect square")
_MORE = ("more than {x}", "over {x}", "above {x}", "greater than {x}", "larger than {x}")
_LESS = ("less than {x}", "under {x}", "below {x}", "lower than {x}", "smaller than {x}")
_AT_LEAST = ("at least {x}", "{x} or more", "{x} or above", "no less than {x}")
_AT_MOST = ("at most {x}", "{x} or less", "{x} or below", "no more than {x}")
_MULTIPLE = ("a multiple of {x}", "divisible by {x}")


def phrase(label: int, rng: np.random.Generator, ambiguous: float) -> str:
    """Draw a phrase that is true of a digit, 0 to 9; with probability ``ambiguous`` one that names others as well.

    Kinds of phrase (parity, comparison, choice of two ...) are equally likely, and so are the phrases of each kind.
    """
    kinds = _SEVERAL_FOR[label] if rng.random() < ambiguous else _ONE_FOR[label]
    kind = kinds[rng.integers(len(kinds))]
    return kind[rng.integers(len(kind))]


def meaning(text: str) -> frozenset[int]:
    """Return the digits that a phrase names; none, if it is no phrase of this grammar to the letter."""
    return _MEANING.get(text, frozenset())


def _written(frame: str, x: int) -> Iterator[str]:
    """Fill a digit into a frame, as a word and as a numeral, behind the right article."""
    for name in (WORDS[x], NUMERALS[x]):
        yield frame.format(x=name, a="an" if x == 8 else "a")


def _named(frames: tuple[str, ...], *digits: int) -> Phrases:
    return dict.fromkeys(frames, frozenset(digits))


def _related(frames: tuple[str, ...], true: Callable[[int, int], bool]) -> Phrases:
    """Write "more than {x}" and its like for every x that leaves several digits and not all."""
    sets = {x: frozenset(d for d in DIGITS if true(d, x)) for x in DIGITS}
    several = {x: s for x, s in sets.items() if 1 < len(s) < len(DIGITS)}
    return {text: s for frame in frames for x, s in several.items() for text in _written(frame, x)}


def _alternatives() -> Phrases:
    """Write "four or five", in either order, both words or both numerals."""
    pairs = [(x, y) for x in DIGITS for y in DIGITS if x != y]
    return {f"{names[x]} or {names[y]}": frozenset({x, y}) for names in (WORDS, NUMERALS) for x, y in pairs}


def _ranges() -> Phrases:
    """Write "from four to seven", both words or both numerals; the ends belong to it."""
    ends = [(x, y) for x in DIGITS for y in DIGITS if 0 < y - x < len(DIGITS) - 1]
    return {
        f"from {names[x]} to {names[y]}": frozenset(range(x, y + 1)) for names in (WORDS, NUMERALS) for x, y in ends
    }


ONE: tuple[Phrases, ...] = ({text: frozenset({x}) for frame in _ONE for x in DIGITS for text in _written(frame, x)},)
"""The phrases that name one digit, all of one kind."""
SEVERAL: tuple[Phrases, ...] = (
    _named(_ODD, 1, 3, 5, 7, 9) | _named(_EVEN, 0, 2, 4, 6, 8),
    _named(_PRIME, 2, 3, 5, 7) | _named(_SQUARE, 0, 1, 4, 9),
    _related(_MORE, lambda d, x: d > x) | _related(_AT_LEAST, lambda d, x: d >= x),
    _related(_LESS, lambda d, x: d < x) | _related(_AT_MOST, lambda d, x: d <= x),
    _related(_MULTIPLE, lambda d, x: x > 0 and d % x == 0),
    _alternatives(),
    _ranges(),
    _related(("not {x}",), lambda d, x: d != x),
)
"""The phrases that name two to nine digits, by kind."""


def _by_label(kinds: tuple[Phrases, ...]) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """List for each digit, kind by kind, the phrases that admit it; a kind without any is left out."""
    admitting = [[tuple(t for t, s in kind.items() if d in s) for kind in kinds] for d in DIGITS]
    return tuple(tuple(kind for kind in of_digit if kind) for of_digit in admitting)


_ONE_FOR, _SEVERAL_FOR = _by_label(ONE), _by_label(SEVERAL)
_MEANING: Phrases = {text: digits for kind in (*ONE, *SEVERAL) for text, digits in kind.items()}
