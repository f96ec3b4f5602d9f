"""Validation of a column of labels."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Rational, Real
from typing import Any, NoReturn

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import type_of_target

from skprotolm._data.hints import column, column_names, container_hint
from skprotolm._data.texts import first_of, is_encodable, is_missing, shown, unmasked

_BINARIZED = (
    "For several labels per text, pass the indicator matrix "
    "sklearn.preprocessing.MultiLabelBinarizer().fit_transform(y)"
)
_STR_LABELS = "[str(label) for label in y]"
_MASKS = {  # of pandas, Polars, PyArrow and NumPy masked arrays, by a method
    "notna": "y.notna()",
    "is_not_null": "y.is_not_null()",
    "is_valid": "y.is_valid()",
    "mask": "~y.mask",
}


def check_labels(y: Any, n_texts: int) -> np.ndarray:
    """Return y as an array of shape (n_texts,) of str, int, bool or whole floats."""
    array = label_array("y", y)
    if array.ndim > 1 and array.shape[1:] != (1,):
        _refuse_matrix(y, array)
    if array.dtype.kind == "c":  # named per row below
        array = array.astype(object)
    array = column_or_1d(array, warn=True)
    check_consistent_length(range(n_texts), array)
    if array.dtype.kind in "biu":
        return array
    if array.dtype.kind in "mMV":
        raise TypeError(
            f"y must hold labels of type str, int or bool, got {array.dtype.name}; "
            f"convert them, for example with {_STR_LABELS}."
        )
    labels = [plain_label(label) for label in array.tolist()]
    refuse_missing("y", y, labels)
    is_str = isinstance(labels[0], str)
    for row, label in enumerate(labels):
        _check_label(row, label, expect_str=is_str)
    if is_str:
        if array.dtype.kind == "U":
            return array
        return np.array(labels, dtype=None if isinstance(y, (list, tuple)) else object)
    numbers = _whole_numbers(y, labels)
    if all(isinstance(label, int) for label in labels):
        return np.array(labels)
    # np.longdouble has no type of Python, so that JSON and HTML cannot hold it.
    return array if array.dtype in (np.float16, np.float32) else numbers


def label_array(name: str, labels: Any) -> np.ndarray:
    """Return labels as an array of any shape."""
    if issparse(labels):
        # scikit-learn's function fails for one dimension.
        kind = type_of_target(labels) if labels.ndim == 2 else "sparse"
        hint = "one column per label is for y of a ProtoLMClassifier alone"
        if labels.ndim == 1 or labels.shape[1] == 1:
            hint = f"pass {name}.toarray().ravel()"
        raise ValueError(
            f"Unknown label type: {kind}. {name} must hold one label per text, got a "
            f"sparse matrix of shape {labels.shape}; {hint}."
        )
    if hasattr(labels, "detach"):  # a tensor, which may require grad or be sparse
        labels = np.array(labels.detach().to_dense().tolist())
    if not isinstance(labels, (list, tuple)):
        array = np.asarray(unmasked(labels))
    elif labels and all(isinstance(row, (list, tuple, np.ndarray)) for row in labels):
        array = np.array(labels, dtype=object)
    else:  # np.asarray converts the 1 of [1, "a"] to "1"
        array = np.fromiter(labels, dtype=object, count=len(labels))
    if array.ndim == 0 or (not hasattr(labels, "__array__") and column_names(labels)):
        raise ValueError(
            f"{name} must be one column of labels, got {type(labels).__name__}; "
            f"{container_hint(labels, name)}."
        )
    return array


def as_label_list(name: str, labels: Any) -> list[Any] | None:
    """Return a column of labels as a list, or None for a single label."""
    is_column = hasattr(labels, "__iter__") or hasattr(labels, "__array__")
    if isinstance(labels, (str, bytes, np.generic)) or not is_column:
        return None
    array = label_array(name, labels)
    if array.ndim > 1 and array.shape[1:] != (1,):
        raise ValueError(
            f"{name} must be one column of labels, got {type(labels).__name__} of "
            f"shape {array.shape}; pass one column, for example "
            f"{column(labels, name, 0)}."
        )
    return array.ravel().tolist()


def plain_label(label: Any) -> Any:
    """Convert a label of NumPy or of an enumeration to a Python str or number."""
    if isinstance(label, str):
        return str.__str__(label)
    if isinstance(label, (bool, np.bool_)):
        return bool(label)
    return int(label) if isinstance(label, Integral) else label


def _refuse_matrix(y: Any, array: np.ndarray) -> NoReturn:
    """Raise an error for a matrix of labels."""
    # NumPy infers the data type that `label_array` did not.
    inferred = np.array(array.tolist()) if array.dtype == object else array
    hint = ""
    if array.ndim == 2 and array.size:
        hint = f" Pass one column, for example {column(y, 'y', -1)}."
        hint += f" {_matrix_hint(y, array)}."
    raise ValueError(
        f"Unknown label type: {type_of_target(inferred)}. y must hold one label per "
        f"text, got a matrix of shape {array.shape}.{hint}"
    )


def _matrix_hint(y: Any, array: np.ndarray) -> str:
    """Return how to pass a matrix of no numbers as several labels per text."""
    if isinstance(y, (list, tuple)):
        return _BINARIZED
    is_indicator = (array == 0) | (array == 1)
    number = int(np.argmin(is_indicator.all(axis=0)))
    value = array[np.argmin(is_indicator[:, number]), number]
    names = column_names(y)
    hint = (
        f"For several labels per text, all columns must hold 0 and 1: column "
        f"{repr(names[number]) if names else number} has {shown(value)}"
    )
    is_written = set(map(str, array.ravel().tolist())) <= {"0", "1"}
    return f"{hint}; use y.astype(int)" if is_written else hint


def refuse_missing(name: str, y: Any, labels: list[Any]) -> None:
    """Raise an error for missing labels or numbers."""
    rows = [row for row, label in enumerate(labels) if is_missing(label)]
    if rows:
        masks = (mask for method, mask in _MASKS.items() if hasattr(y, method))
        remedy = "pass a value for each"
        if name.startswith("y"):
            remedy = (
                f"drop these rows of X and {name}, for example with the mask "
                f"{next(masks, 'pandas.notna(y)')}"
            )
        raise ValueError(
            f"Input {name} contains NaN: row {rows[0]} is {labels[rows[0]]}"
            f"{first_of(rows)}; {remedy}."
        )


def _check_label(row: int, label: Any, *, expect_str: bool) -> None:
    """Raise an error if a label cannot be stored, or has another type than row 0."""
    if not isinstance(label, (str, Real)):
        error = TypeError if isinstance(label, bytes) else ValueError
        raise error(
            f"Unknown label type: row {row} of y is {shown(label)}; y must hold one "
            f"label per text, of type str, int or bool. {_label_hint(label)}."
        )
    if isinstance(label, str) != expect_str:
        raise TypeError(
            f"y mixes labels of several types, str and numbers: row {row} is "
            f"{shown(label)}; use one type, for example [str(label) for label in y]."
        )
    if isinstance(label, str):
        if not is_encodable(label) or label.endswith("\0"):
            raise ValueError(
                f"Row {row} of y is {label!r}, which contains an unpaired surrogate or "
                f"ends with NUL; such labels cannot be stored."
            )
    elif isinstance(label, Rational) and (label < -(2**63) or not label < 2**63):
        raise ValueError(
            f"Row {row} of y is {shown(label)}, which needs more than 64 bits; use str."
        )


def _label_hint(row: Any) -> str:
    """Return how to convert a row that is not a label."""
    if isinstance(row, (list, tuple, set, frozenset, np.ndarray)):
        return _BINARIZED
    code = _STR_LABELS
    if (
        isinstance(row, Mapping)
        and len(row) > 1
        and all(isinstance(value, Real) and value in (0, 1) for value in row.values())
    ):
        return "For several labels per text, pass pandas.DataFrame(y)"
    if hasattr(row, "item") and hasattr(row, "tolist"):  # a tensor
        is_single = getattr(row, "ndim", 0) == 0
        code = "[label.item() for label in y]" if is_single else "numpy.stack(y)"
    elif isinstance(row, Mapping):
        key = "label" if "label" in row else next(reversed([*row]), "label")
        code = f"[row[{key!r}] for row in y]"
    elif isinstance(row, bytes):
        code = "[label.decode('utf-8') for label in y]"
    return f"Convert the labels, for example with {code}"


def _whole_numbers(y: Any, labels: list[Any]) -> np.ndarray:
    """Return numbers as floats. Infinite numbers and fractions are refused."""
    numbers = np.array(labels, dtype=np.float64)
    infinite = np.flatnonzero(np.isinf(numbers)).tolist()
    if infinite:
        raise ValueError(
            f"Input y contains infinity: row {infinite[0]} is {numbers[infinite[0]]}"
            f"{first_of(infinite)}; drop those rows of X and y."
        )
    fractions = np.flatnonzero(numbers != np.floor(numbers))
    if fractions.size:
        code = "y.astype(str)" if hasattr(y, "astype") else _STR_LABELS
        raise ValueError(
            f"Unknown label type: continuous. y must hold labels, got "
            f"{numbers[fractions[0]]} in row {fractions[0]}. Group measurements into "
            f"classes, for example with pandas.cut(y, bins=3, labels=['low', 'medium', "
            f"'high']), or use {code} if the numbers are labels."
        )
    return numbers
