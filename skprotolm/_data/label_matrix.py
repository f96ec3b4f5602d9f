"""Validation of y: indicator matrices of several labels per text.

Letters: n texts, L labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_consistent_length

from skprotolm._data.hints import column_names
from skprotolm._data.labels import label_array
from skprotolm._data.texts import first_of, is_encodable, is_missing, shown


def is_label_matrix(y: Any) -> bool:
    """Whether y is a matrix of numbers with one column per label."""
    if issparse(y):
        return y.ndim == 2 and y.shape[1] > 1
    if isinstance(y, (str, bytes)) or not hasattr(y, "__len__"):
        return False
    array = _dense(y)
    return array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "biuf"


def _dense(y: Any) -> np.ndarray:
    """Return y as an array of the data type that its values have."""
    if issparse(y):
        return y.toarray()
    try:
        array = label_array("y", y)
        if array.dtype.kind != "O" or array.ndim != 2:
            return array
        # NumPy infers the data type that `label_array` did not.
        return np.array(
            [[np.nan if is_missing(v) else v for v in row] for row in array.tolist()]
        )
    except (TypeError, ValueError):  # ragged rows, or no array
        return np.empty(0)


def as_label_matrix(y: Any, name: str, n_texts: int | None = None) -> np.ndarray:
    """Return an indicator matrix as bool, (n, L); other numbers are refused."""
    if not is_label_matrix(y):
        raise ValueError(
            f"{name} must be an indicator matrix of 0 and 1, one row per text and one "
            f"column per label, got {shown(y)}; sets of labels become one with "
            f"sklearn.preprocessing.MultiLabelBinarizer."
        )
    matrix = _dense(y)
    if n_texts is not None:
        check_consistent_length(range(n_texts), matrix)
    wrong = (matrix != 0) & (matrix != 1)
    if wrong.any():
        rows, columns = np.nonzero(wrong)
        value = matrix[rows[0], columns[0]]
        if is_missing(value):
            raise ValueError(
                f"Input {name} contains NaN: row {rows[0]}, column {columns[0]}"
                f"{first_of(np.unique(rows).tolist())}; fill it with 0 or 1, or drop "
                f"the row."
            )
        raise ValueError(
            f"{name} must be an indicator matrix of 0 and 1: row {rows[0]}, column "
            f"{columns[0]} is {value}. For one label per text, pass one column; "
            f"{_matrix_hint(y, matrix, name)}."
        )
    return matrix.astype(bool)


def _matrix_hint(y: Any, matrix: np.ndarray, name: str) -> str:
    """Return how to make an indicator matrix of other numbers."""
    if np.isin(matrix, (-1, 1)).all():
        return f"for -1 and 1, use ({name} > 0).astype(int)"
    is_fraction = (0 <= matrix) & (matrix <= 1)
    if isinstance(y, (list, tuple)) and not is_fraction.all():
        return (
            f"for lists of labels, use sklearn.preprocessing.MultiLabelBinarizer()."
            f"fit_transform({name})"
        )
    return f"for probabilities, for example ({name} >= 0.5).astype(int)"


def label_names(y: Any, n_labels: int) -> np.ndarray:
    """Return the names of the labels: those of a frame's columns, or 0 to L − 1.

    Raises
    ------
    ValueError
        If two columns have the same name, or one that cannot be stored.
    """
    if not _has_names(y, n_labels):
        return np.arange(n_labels)
    names = column_names(y)
    if len(set(names)) < n_labels:
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"y has two columns of the name {twice!r}; rename one.")
    if all(isinstance(name, str) for name in names):
        bad = [name for name in names if not is_encodable(name) or name.endswith("\0")]
        if bad:
            raise ValueError(
                f"The column {bad[0]!r} of y contains an unpaired surrogate or ends "
                f"with NUL; such labels cannot be stored."
            )
        return np.array(names)
    is_bool = any(isinstance(name, bool) for name in names)
    if not is_bool and all(isinstance(name, (int, np.integer)) for name in names):
        return np.array(names, dtype=np.int64)
    raise ValueError(
        f"The columns of y name the labels, and must be all str or all int, got "
        f"{names[:5]}; rename them, for example with y.columns.map(str)."
    )


def _has_names(y: Any, n_labels: int) -> bool:
    """Whether y is a frame with one name per column."""
    return not isinstance(y, (list, tuple)) and len(column_names(y)) == n_labels


def require_columns(y: Any, name: str, classes: np.ndarray) -> None:
    """Refuse a frame whose columns are not the labels in their order."""
    width = y.shape[1] if hasattr(y, "shape") else len(y[0])
    if width != len(classes):
        raise ValueError(
            f"{name} must have one column per label ({len(classes)}), got {width}."
        )
    if not _has_names(y, width):
        return
    names = label_names(y, width)
    # Columns without names are numbered in frames, too.
    is_comparable = names.dtype.kind == classes.dtype.kind
    if is_comparable and not np.array_equal(names, classes):
        raise ValueError(
            f"The columns of {name} must be the labels of the fit in their order, "
            f"{classes.tolist()[:5]}, got {names.tolist()[:5]}; pass "
            f"{name}[clf.classes_]."
        )


def encode_label_sets(
    labels: Any, name: str, classes: np.ndarray, n: int | None = None
) -> np.ndarray:
    """Return indicator rows or collections of labels as an indicator matrix, bool.

    Rows of arrays, sparse matrices and frames are indicators; lists, tuples and sets
    hold labels.
    """
    rows = None if isinstance(labels, (list, tuple)) else labels
    if rows is None and labels and all(isinstance(r, np.ndarray) for r in labels):
        rows = np.stack(labels)
    if rows is not None:
        matrix = as_label_matrix(rows, name, n)
        require_columns(rows, name, classes)
        return matrix
    if n is not None and len(labels) != n:
        raise ValueError(
            f"{name} must be one set of labels per text ({n}), got {len(labels)}."
        )
    return np.array([_indicators(row, name, classes) for row in labels], dtype=bool)


def _indicators(row: Any, name: str, classes: np.ndarray) -> np.ndarray:
    """Return the indicators (L,) of one set of labels."""
    if isinstance(row, (str, bytes)) or not hasattr(row, "__iter__"):
        raise ValueError(
            f"{name} must hold a set of labels per text, such as ["
            f"{classes.tolist()[0]!r}], or an indicator row as an array, got "
            f"{shown(row)}."
        )
    given, known = list(row), classes.tolist()
    is_ambiguous = sorted(known) == sorted(given) == [0, 1]
    if is_ambiguous and isinstance(row, (list, tuple)):
        raise ValueError(
            f"{name} holds {row!r}, which may be both labels or an indicator row; pass "
            f"a set, or a row as a NumPy array."
        )
    unknown = [label for label in given if label not in known]
    if unknown or len(set(given)) < len(given):
        problem = "one is named twice"
        if unknown:
            problem = f"{unknown[0]!r} is not one of them"
        raise ValueError(
            f"{name} must hold labels from classes_, {known[:10]}: in {shown(row)}, "
            f"{problem}. Indicator rows are passed as NumPy arrays."
        )
    return np.isin(np.arange(len(known)), [known.index(label) for label in given])
