"""Train on synthetic, test on real, and the reverse: RCGAN, Esteban, Hyland and Rätsch, 2017, arXiv:1706.02633."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from fusion_engine.errors import DataError


class Labelled(NamedTuple):
    """Rows of one kind: n inputs that a classifier takes (an array [n d], say) and their n labels."""

    inputs: Any
    labels: Sequence[Any]


@runtime_checkable
class Classifier(Protocol):
    """What scikit-learn calls a classifier."""

    def fit(self, X: Any, y: Any) -> Any:  # noqa: N803 (as scikit-learn calls it)
        """Learn."""

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Give a label a row."""


@dataclass(frozen=True)
class BothWays:
    """Accuracies of one kind of classifier; ``real`` is the ceiling, ``chance`` the floor.

    - ``synthetic_to_real`` (TSTR) is low where generated data lack a part of what real data are, or carry wrong
      labels: a generator that repeats one good sample a class scores low;
    - ``real_to_synthetic`` (TRTS) is low where generated data are not what their labels say; such a generator scores
      high.
    """

    synthetic_to_real: float
    real_to_synthetic: float
    real: float
    chance: float
    """of the most frequent label of the held-out rows"""
    n: int
    """rows that each classifier learned from"""


def both_ways(
    real: Labelled, held_out: Labelled, synthetic: Labelled, classifier: Callable[[], Classifier], *, seed: int = 0
) -> BothWays:
    """Train on real and on generated rows, in equal numbers, and test each on the other kind.

        TSTR = accuracy on held_out of a classifier trained on synthetic
        TRTS = accuracy on synthetic of one trained on real              real = its accuracy on held_out

    Args:
        real: rows that the generator learned from.
        held_out: real rows that nothing has learned from.
        synthetic: generated rows, with the labels that they were made for.
        classifier: makes a fresh one; seed it.
        seed: of the draw that cuts ``real`` and ``synthetic`` to one size.

    Raises:
        DataError: inputs and labels differ in number, or a set to learn from has fewer than two classes.
    """
    sets = {"real": real, "held-out": held_out, "synthetic": synthetic}
    for name, rows in sets.items():
        _check(name, rows, learns=name != "held-out")
    n = min(len(real.labels), len(synthetic.labels))
    by_real = _fitted(classifier, _cut(real, n, seed))
    by_synthetic = _fitted(classifier, _cut(synthetic, n, seed))
    _, counts = np.unique(np.asarray(held_out.labels), return_counts=True)
    return BothWays(
        synthetic_to_real=_accuracy(by_synthetic, held_out),
        real_to_synthetic=_accuracy(by_real, synthetic),
        real=_accuracy(by_real, held_out),
        chance=float(counts.max() / counts.sum()),
        n=n,
    )


def _check(name: str, rows: Labelled, learns: bool) -> None:
    where = f"the {name} rows"
    if len(rows.inputs) != len(rows.labels) or len(rows.labels) == 0:
        raise DataError(
            "there is not one label a row",
            where=where,
            expected="as many, at least 1",
            actual=f"{len(rows.inputs)} rows, {len(rows.labels)} labels",
        )
    if learns and len(set(rows.labels)) < 2:
        raise DataError("a classifier needs two classes", where=where, actual=f"only {rows.labels[0]!r}")


def _cut(rows: Labelled, n: int, seed: int) -> Labelled:
    if len(rows.labels) == n:
        return rows
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows.labels))[:n])
    inputs = rows.inputs[chosen] if isinstance(rows.inputs, np.ndarray) else [rows.inputs[i] for i in chosen]
    return Labelled(inputs, [rows.labels[i] for i in chosen])


def _fitted(classifier: Callable[[], Classifier], rows: Labelled) -> Classifier:
    made = classifier()
    made.fit(rows.inputs, rows.labels)
    return made


def _accuracy(classifier: Classifier, rows: Labelled) -> float:
    predicted = classifier.predict(rows.inputs)
    return float(np.mean([p == label for p, label in zip(predicted, rows.labels, strict=True)]))
