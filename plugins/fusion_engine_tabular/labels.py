"""Labels: reading raw ones, learning a list of classes, and looking them up."""

from collections.abc import Iterable, Sequence
from typing import Any

from fusion_engine import ConfigError, DataError, nearest, require

Label = str | int | bool


class Classes:
    """A list of classes, each once: looks up the index of a label.

    Raises:
        ConfigError: a class stands twice.
    """

    def __init__(self, classes: Sequence[Label]) -> None:
        self.classes = tuple(classes)
        self._index = {label: i for i, label in enumerate(self.classes)}
        if len(self._index) < len(self.classes):
            twice = sorted({str(label) for label in self.classes if self.classes.count(label) > 1})
            raise ConfigError("`classes` names a class twice", expected="each once", actual=", ".join(twice))

    def index(self, label: Label) -> int:
        """Return the place of a label.

        Raises:
            DataError: it is none of the classes; the message has the nearest.
        """
        if label not in self._index:
            close = nearest(str(label), map(str, self.classes))
            raise DataError(
                f"{label!r} is none of the classes", expected=_listed(self.classes), actual=repr(label), fix=close
            )
        return self._index[label]

    def check(self, labels: Iterable[Label]) -> list[Label]:
        """Check that every label is one of the classes, and return those in their order.

        Raises:
            DataError: a label is none of them.
        """
        for label in labels:
            self.index(label)
        return list(self.classes)


def learned_classes(labels: Iterable[Label]) -> list[Any]:
    """Sort the different labels of training data.

    Raises:
        DataError: there are none, or they are of several types.
    """
    found = set(labels)
    require(bool(found), "there are no labels to learn from", expected="at least one", actual="none")
    types = sorted({type(label).__name__ for label in found})
    require(
        len(types) == 1,
        "the labels are of several types",
        expected="strings, integers or booleans",
        actual=" and ".join(types),
        fix="set `classes`",
    )
    return sorted(found)


def _listed(classes: Sequence[Label]) -> str:
    shown = ", ".join(repr(c) for c in classes[:10])
    return f"one of {shown}" + (f" and {len(classes) - 10} more" if len(classes) > 10 else "")


def read_label(raw: Any) -> Label:
    """Read a label, also from a scalar of numpy or torch.

    Raises:
        DataError: it is no string, whole number or boolean.
    """
    value = raw
    if getattr(raw, "ndim", None) == 0:
        value = raw.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str | int | bool):
        return str(value) if isinstance(value, str) else value
    raise DataError(
        "a label is a string, an integer or a boolean",
        expected="such",
        actual=f"{raw!r}",
        fix="pass None for a missing label",
    )
