"""Validation of y: convert labels to classes and class indices."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Rational, Real
from typing import Any, NamedTuple, NoReturn

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import type_of_target

from skprotolm._data.hints import column, column_names, container_hint
from skprotolm._data.texts import (
    Texts,
    as_texts,
    first_of,
    is_encodable,
    is_missing,
    shown,
    unmasked,
)
from skprotolm._data.weights import combine_weights
from skprotolm._runtime import warn
from skprotolm.exceptions import SingleTextClassesWarning

# With fewer classes than this, one text per class may be intended.
_MIN_IDENTIFIERS = 6

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


class Targets(NamedTuple):
    """y and its weights, encoded; rows of weight 0 are left out."""

    values: np.ndarray  # (n, ...), for a prototype the value of its text
    # (n,) int: groups of texts that have their own prototypes and of which splits keep
    # the same fraction.
    strata: np.ndarray
    weights: np.ndarray  # (n,) float64, with mean 1
    rows: np.ndarray  # (n,) int64, rows of X


def encode_targets(
    y: Any,
    n_texts: int,
    sample_weight: Any,
    class_weight: Any,
    name: str,
    *,
    fewest: int = 2,
) -> tuple[np.ndarray, Targets]:
    """Validate y and the weights, and encode the labels.

    `name` is the name of the estimator in error messages, `fewest` how many classes
    there must be. Returns the sorted labels (C,), and targets whose values and strata
    are class indices.
    """
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None.")
    labels = _check_labels(y, n_texts)
    weights = combine_weights(labels, sample_weight, class_weight)
    rows = np.flatnonzero(weights)
    classes, codes = np.unique(labels[rows], return_inverse=True)
    if len(classes) < fewest:
        raise ValueError(
            f"y must hold at least two classes, got only one class "
            f"({repr(classes.tolist()[0])[:60]}) among the texts of positive weight. "
            f"Classifier can't train when only one class is present."
        )
    weights = weights[rows] / weights[rows].mean()
    codes = codes.astype(np.int64)
    return classes, Targets(codes, codes, weights, rows)


def require_listed(classes: Any, labels: list[Any]) -> None:
    """Raise an error if `classes` lacks a label, unless it is None."""
    if classes is None:
        return
    listed = _as_list("classes", classes)
    if listed is None:
        raise ValueError(f"classes must be a list of labels, got {shown(classes)}.")
    # What is no label need not be hashable.
    known = {_plain(v) for v in listed if isinstance(v, (str, Real, np.bool_))}
    missing = [label for label in labels if label not in known]
    if missing:
        raise ValueError(
            f"classes must list all labels of y, and all of classes_; missing: "
            f"{missing[:5]}. It may be left out."
        )


def refuse_swapped(X: Any, y: Any) -> None:
    """Raise an error if X and y are swapped, as in ``fit(y, X)``.

    X then holds numbers, or few distinct str, and y holds distinct texts. Such y
    cannot be fitted: it has more classes than X has texts.
    """
    if not isinstance(X, (list, tuple)) and not hasattr(X, "__array__"):
        return
    try:
        labels = _as_list("X", X) or []
        n_distinct = len(set(labels))
        repeated = n_distinct <= len(labels) / 2
        if not all(isinstance(label, (Real, np.bool_)) for label in labels) and not (
            repeated and all(isinstance(label, str) for label in labels)
        ):
            return
        texts = as_texts(y, name="y")
    except (TypeError, ValueError):
        return
    firsts = [text if isinstance(text, str) else text[0] for text in texts]
    n_phrases = sum(" " in text for text in firsts)
    is_text_column = n_phrases >= len(texts) / 2 and len(set(texts)) >= 0.9 * len(texts)
    if len(texts) == len(labels) and is_text_column:
        raise ValueError(
            f"X and y seem to be swapped: y holds texts, like {shown(texts[0])}, and X "
            f"{n_distinct} distinct values, like {shown(labels[0])}. Pass the texts "
            f"as X and the labels as y."
        )


def refuse_labels_in_texts(
    X: Any, texts: Texts, classes: np.ndarray, targets: Targets
) -> None:
    """Raise an error if one text of each pair is the label."""
    if isinstance(texts[0], str):
        return
    labels = [str(label) for label in classes.tolist()]
    pairs: Any = [texts[row] for row in targets.rows.tolist()]
    for number in (0, 1):
        values = [pair[number] for pair in pairs]
        matches = set(zip(values, targets.values.tolist(), strict=True))
        one_to_one = len(matches) == len(set(values)) == len(labels)
        # If the other column has as few values, the texts themselves repeat.
        has_more_texts = len({pair[1 - number] for pair in pairs}) > len(matches)
        equal = all(value == labels[code] for value, code in matches)
        if equal or (one_to_one and has_more_texts):
            raise ValueError(
                f"Column {number} of X holds the labels y, or other names of them: "
                f"each of its values occurs with one label only, and each label with "
                f"one value. Two columns are pairs of texts; pass the column of texts "
                f"alone, {column(X, 'X', 1 - number)}."
            )


def warn_single_text_classes(classes: np.ndarray, targets: Targets) -> None:
    """Warn if every class has one text only, as if y held identifiers."""
    n_classes = len(classes)
    if n_classes < _MIN_IDENTIFIERS or n_classes < len(targets.rows):
        return
    warn(
        f"Each of the {n_classes} classes of y has only one text, so the classifier "
        f"cannot learn what the texts of a class have in common. If y holds "
        f"identifiers, pass the column of labels instead.",
        SingleTextClassesWarning,
    )


def class_codes(
    classes: np.ndarray, name: str, labels: Any, n_texts: int | None = None
) -> np.ndarray:
    """Return the class index per label.

    With `n_texts`, a single label is repeated for all texts. `name` is the name of
    the labels in error messages.
    """
    if isinstance(labels, np.ndarray) and labels.ndim == 0:
        labels = labels.item()
    values = _as_list(name, labels)
    if values is None:
        if n_texts is None:
            raise ValueError(f"{name} must be a list of labels, got {labels!r}.")
        values = [labels] * n_texts
    if n_texts is not None and len(values) != n_texts:
        raise ValueError(
            f"{name} must be one label, or one per text ({n_texts}), got {len(values)}."
        )
    known = {label: code for code, label in enumerate(classes.tolist())}
    codes = [_code(value, known) for value in values]
    if None in codes:
        raise ValueError(
            f"{name} must contain labels from classes_, got "
            f"{shown(values[codes.index(None)])}; the classes are "
            f"{classes.tolist()[:10]}."
        )
    return np.array(codes, dtype=np.int64)


def _code(label: Any, known: dict[Any, int]) -> int | None:
    try:
        return known.get(_plain(label))
    except TypeError:  # not hashable
        return None


def one_code_each(
    classes: np.ndarray, name: str, labels: Any, n_texts: int
) -> np.ndarray:
    """Return the class index per text. A single label for all texts is refused."""
    values = _as_list(name, labels)
    if values is None or len(values) != n_texts:
        received = "a single value" if values is None else len(values)
        raise ValueError(
            f"{name} must be one label per text ({n_texts}), got {received}."
        )
    return class_codes(classes, name, values)


def _as_list(name: str, labels: Any) -> list[Any] | None:
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


def _plain(label: Any) -> Any:
    """Convert a label of NumPy or of an enumeration to a Python str or number."""
    if isinstance(label, str):
        return str.__str__(label)
    if isinstance(label, (bool, np.bool_)):
        return bool(label)
    return int(label) if isinstance(label, Integral) else label


def _check_labels(y: Any, n_texts: int) -> np.ndarray:
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
    labels = [_plain(label) for label in array.tolist()]
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
