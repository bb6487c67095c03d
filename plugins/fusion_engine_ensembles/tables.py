"""What ensembles and members read: arrays as they are, tables of modalities as lists of rows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d

from fusion_engine import DataError, Table


def indexable(X: Any) -> Any:
    """Make what scikit-learn can take rows of: columns and tables become lists of rows, all else stays as it is."""
    columns = isinstance(X, Mapping) and not issparse(X)  # SciPy's matrix of keys is a mapping
    return list(table_of(X)) if columns or isinstance(X, Table) else X


def table_of(X: Any) -> Table:
    """Read rows {modality: raw sample or None}.

    Raises:
        DataError: it is no table.
    """
    return X if isinstance(X, Table) else Table(X)


def plain(value: Any) -> Any:
    """Make NumPy's numbers and arrays Python's own; all else stays as it is."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def checked(X: Any, y: Any) -> tuple[Any, np.ndarray]:
    """Check what an ensemble is fitted to.

    Raises:
        ValueError: there are no labels, some are missing, they are no classes, or there is not one a row (as
            scikit-learn has it).
    """
    if y is None:
        raise ValueError("an ensemble requires y to be passed, but the target y is None")
    every = np.asarray(y, dtype=object).ravel().tolist()
    missing = [i for i, label in enumerate(every) if label is None or (isinstance(label, float) and math.isnan(label))]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"an ensemble learns from labels, and that of row {missing[0]}{more} is missing: leave it out")
    X, labels = indexable(X), column_or_1d(y, warn=True)
    check_classification_targets(labels)
    check_consistent_length(X, labels)
    return X, labels


def union(parts: Sequence[Any]) -> np.ndarray:
    """List every class of several lists of classes once, sorted.

    Raises:
        DataError: some classes are text and others numbers: they could never be the same by name.
    """
    arrays = [np.asarray(part) for part in parts]
    texts = {all(isinstance(label, str) for label in a.tolist()) for a in arrays if len(a)}
    if len(texts) > 1:
        raise DataError(
            "labels and members do not name the classes alike",
            expected="text everywhere, or numbers everywhere",
            actual="; ".join(str(a.tolist()[:5]) for a in arrays),
        )
    return np.unique(np.concatenate(arrays))


def places(labels: Any, classes: np.ndarray) -> list[int]:
    """Find each label among the classes, by name; -1 where it is none of them."""
    place = {label: i for i, label in enumerate(classes.tolist())}
    return [place.get(label, -1) for label in np.asarray(labels).tolist()]
