"""The one door for y and weights: labels to class indices, weights to mean 1."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight

from skprotolm._inputs import is_encodable, is_missing, unmasked

# Weights this many times smaller than the largest vanish in fp32, and count as 0.
_NEGLIGIBLE = 1e-30


class Targets(NamedTuple):
    """What training reads of y and its weights; rows of weight 0 are left out."""

    classes: np.ndarray  # (C,), sorted labels
    codes: np.ndarray  # (n,) int64, each row's index into classes
    weights: np.ndarray  # (n,) float64, of mean 1
    rows: np.ndarray  # (n,) int64, the rows of X that take part


def encode_targets(
    y: Any, n_texts: int, sample_weight: Any, class_weight: Any, name: str
) -> Targets:
    """Check y and the weights against X and encode them.

    Parameters
    ----------
    y : array-like of shape (n_texts,)
    n_texts : int
        The number of rows of X.
    sample_weight : array-like of shape (n_texts,), float or None
    class_weight : dict, "balanced" or None
    name : str
        The estimator's name, for messages.
    """
    labels = _checked_labels(y, n_texts, name)
    weights = _checked_weights(sample_weight, n_texts)
    rows = np.flatnonzero(weights > 0)
    if rows.size == 0:
        raise ValueError(
            "All values of sample_weight are zero: nothing can be learned."
        )
    labels, weights = labels[rows], weights[rows]
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        found = repr(classes.tolist()[0])[:60]
        raise ValueError(
            f"y must hold at least two classes, got only one class ({found}) among the "
            f"texts of positive weight. Classifier can't train when only one class is "
            f"present."
        )
    _check_class_weight(class_weight)
    weights = weights * _scaled(compute_sample_weight(class_weight, labels))
    if not weights.any():
        raise ValueError("class_weight gives every text the weight 0.")
    weights = _scaled(weights)
    kept = np.flatnonzero(weights)
    if kept.size < rows.size:  # a class of weight 0 is a class that is not there
        everywhere = np.zeros(n_texts)
        everywhere[rows[kept]] = weights[kept]
        return encode_targets(y, n_texts, everywhere, None, name)
    return Targets(classes, codes.astype(np.int64), weights / weights.mean(), rows)


def class_codes(
    classes: np.ndarray, name: str, labels: Any, n_texts: int | None = None
) -> np.ndarray:
    """Return the class index of each label, or of one label for all texts.

    Parameters
    ----------
    classes : ndarray of shape (C,)
        The labels that there are.
    name : str
        What the labels are called, for messages.
    labels : label, or array-like of shape (n,)
    n_texts : int, default=None
        How many there must be; a single label then serves all texts.
    """
    if isinstance(labels, np.ndarray) and labels.ndim == 0:
        labels = labels.item()
    given = _as_list(name, labels)
    if given is None and n_texts is None:
        raise ValueError(f"{name} must be a list of labels, got {labels!r}.")
    if given is None:
        given = [labels] * (n_texts or 0)
    if n_texts is not None and len(given) != n_texts:
        raise ValueError(
            f"{name} must be one label, or one a text ({n_texts}), got {len(given)}."
        )
    known = {label: code for code, label in enumerate(classes.tolist())}
    codes = [_code(label, known) for label in given]
    if None in codes:
        raise ValueError(
            f"{name} must hold labels of classes_, got "
            f"{given[codes.index(None)]!r}; the classes are {classes.tolist()[:10]}."
        )
    return np.array(codes, dtype=np.int64)


def one_code_each(
    classes: np.ndarray, name: str, labels: Any, n_texts: int
) -> np.ndarray:
    """Return the class index of each label, one a text; a single label is refused."""
    given = _as_list(name, labels)
    if given is None or len(given) != n_texts:
        found = "a single value" if given is None else len(given)
        raise ValueError(f"{name} must be one label a text ({n_texts}), got {found}.")
    return class_codes(classes, name, given)


def _as_list(name: str, labels: Any) -> list[Any] | None:
    """Return a column of labels as a list, or None for a single label."""
    is_column = hasattr(labels, "__iter__") or hasattr(labels, "__array__")
    if isinstance(labels, (str, bytes, np.generic)) or not is_column:
        return None
    if isinstance(labels, (list, tuple)):
        alone = all(isinstance(row, (list, tuple)) and len(row) == 1 for row in labels)
        return [row[0] for row in labels] if alone else [*labels]
    column = np.asarray(unmasked(labels), dtype=object)
    if column.ndim == 2 and column.shape[1] == 1:  # a frame of one column
        column = column[:, 0]
    if column.ndim != 1:  # sets and dicts, too
        raise ValueError(
            f"{name} must be one column of labels, got {type(labels).__name__}; use "
            f"list({name}) for other collections."
        )
    return column.tolist()


def _code(label: Any, known: dict[Any, int]) -> int | None:
    try:
        return known.get(_plain(label))
    except TypeError:  # a list or a dict, which is no label
        return None


def _checked_labels(y: Any, n_texts: int, name: str) -> np.ndarray:
    """Return y as one column of labels that can be told apart."""
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None.")
    if isinstance(y, (str, bytes, set, dict)):
        raise ValueError(f"y must be an array-like of labels, got {type(y).__name__}.")
    labels = _as_column(y)
    if len(labels) != n_texts:
        raise ValueError(
            f"X and y must have one entry a text each. Found input variables with "
            f"inconsistent numbers of samples: [{n_texts}, {len(labels)}]"
        )
    if labels.dtype.kind == "f":
        _check_floats(labels)
    elif labels.dtype.kind not in "biuUO":
        raise TypeError(
            f"y must hold labels of type str, int or bool, got {labels.dtype.name}; "
            f"convert them, for example with y.astype(str)."
        )
    return labels


def _as_column(y: Any) -> np.ndarray:
    if isinstance(y, (list, tuple)):
        # As objects first: NumPy would write the 1 of [1, "a"] as "1".
        kind = _check_objects(y)
        # Of numbers as they are: NumPy makes floats of integers beyond 63 bits.
        y = np.array(_plain_labels(y, kind)) if kind else y
    labels = y if hasattr(y, "toarray") else np.asarray(unmasked(y))
    if labels.ndim == 0:
        raise ValueError(
            f"y must be an array-like of labels, got {type(y).__name__}; use list(y) "
            f"for other collections."
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise ValueError(
            f"Unknown label type: multilabel or multioutput. y must hold one label a "
            f"text, got a matrix of shape {labels.shape}."
        )
    if labels.dtype.kind == "c":
        raise ValueError(
            "Unknown label type: complex. y must hold labels, got complex numbers."
        )
    labels = column_or_1d(labels, warn=True)
    if labels.dtype.kind == "U":
        _check_objects(labels.tolist())
    if labels.dtype.kind not in "OT":
        return labels
    kind = _check_objects(labels)
    dtype = object if kind == "str" else None
    return np.array(_plain_labels(labels, kind), dtype=dtype)


def _check_objects(labels: Any) -> str | None:
    """Refuse what is no label, and several kinds of label at once; return the kind."""
    kinds, wrapped = set(), []
    for row, label in enumerate(labels):
        if is_missing(label):
            raise ValueError(
                f"Input y contains NaN: row {row} is {label}; drop that row of X and y."
            )
        if isinstance(label, bytes):
            raise TypeError(f"Row {row} of y is bytes, not str; decode the labels.")
        if isinstance(label, (set, dict)):
            raise ValueError(
                f"Unknown label type: row {row} of y is {label!r}; y must hold one "
                f"label a text."
            )
        if not isinstance(label, (list, tuple, np.ndarray)):
            kinds.add(_kind(label, row))
        else:
            wrapped.append(row)
    if kinds and wrapped:
        found = type(labels[wrapped[0]]).__name__
        raise ValueError(
            f"Row {wrapped[0]} of y is a {found}, and other rows are labels; y must "
            f"hold one label a text."
        )
    lengths = {np.size(label) for label in labels}
    if len(lengths) > 1:
        raise ValueError(
            "Unknown label type: some rows of y hold several labels; y must hold one "
            "label a text."
        )
    if len(kinds) > 1:
        raise TypeError(
            "y mixes labels of several types, str and numbers; use one type, for "
            "example str."
        )
    return kinds.pop() if kinds else None


def _kind(label: Any, row: int) -> str:
    """Return what one label is; only kinds that sort as labels do are let in."""
    if isinstance(label, str):
        if not is_encodable(label) or label.endswith("\0"):
            raise ValueError(
                f"Row {row} of y is {label!r}, which holds half of a surrogate pair or "
                f"ends with NUL; neither can be stored as a label."
            )
        return "str"
    if not isinstance(label, (Real, np.bool_)):
        raise ValueError(
            f"Unknown label type: row {row} of y is {label!r}, of type "
            f"{type(label).__name__}; y must hold labels of type str, int or bool."
        )
    if isinstance(label, (Integral, np.bool_)):
        if not -(2**63) <= int(label) < 2**63:
            raise ValueError(
                f"Row {row} of y is {label}, which needs more than 64 bits; use str."
            )
    else:
        _check_floats(np.array([_as_float(label)]), first_row=row)
    return "number"


def _as_float(label: Any) -> float:
    try:
        return float(label)
    except OverflowError:
        return math.inf


def _plain_labels(labels: Any, kind: str | None) -> list[Any]:
    """Return labels as Python's own: bools if all are, else ints, else floats."""
    plain = [_plain(label) for label in labels]
    if kind != "number" or all(isinstance(label, bool) for label in plain):
        return plain
    if all(isinstance(label, int) for label in plain):
        return [int(label) for label in plain]
    return [float(label) for label in plain]


def _plain(label: Any) -> Any:
    """Turn a label of any library, or of an enumeration, into what it holds."""
    if isinstance(label, str):
        return str.__str__(label)
    if isinstance(label, (bool, np.bool_)):
        return bool(label)
    return int(label) if isinstance(label, Integral) else label


def _check_floats(labels: np.ndarray, first_row: int = 0) -> None:
    bad = np.flatnonzero(~np.isfinite(labels))
    if bad.size:
        raise ValueError(
            f"Input y contains {'NaN' if np.isnan(labels[bad[0]]) else 'infinity'} "
            f"(first at row {first_row + bad[0]}); drop those rows of X and y."
        )
    fractions = np.flatnonzero(labels != np.floor(labels))
    if fractions.size:
        raise ValueError(
            f"Unknown label type: continuous. y must hold labels, got "
            f"{labels[fractions[0]]} in row {first_row + fractions[0]}, which is a "
            f"measurement; if it is a label, use y.astype(str)."
        )


def _checked_weights(sample_weight: Any, n_texts: int) -> np.ndarray:
    if sample_weight is None:
        return np.ones(n_texts)
    weights = _as_numbers(sample_weight)
    if weights.ndim == 0:
        weights = np.full(n_texts, float(weights))
    if weights.ndim != 1:
        raise ValueError(
            f"sample_weight must be 1D array or scalar, got {weights.ndim}D array. "
            f"Expected one number a text."
        )
    if len(weights) != n_texts:
        raise ValueError(
            f"sample_weight.shape == {weights.shape}, expected {(n_texts,)}!"
        )
    bad = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if bad.size:
        raise ValueError(
            f"sample_weight must hold finite numbers of at least 0, got "
            f"{weights[bad[0]]} in row {bad[0]}."
        )
    return _scaled(weights)


def _scaled(weights: np.ndarray) -> np.ndarray:
    """Divide by the maximum; only ratios count, and sums do not overflow then."""
    scaled = weights / (weights.max() or 1.0)
    return np.where(scaled < _NEGLIGIBLE, 0.0, scaled)


def _as_numbers(sample_weight: Any) -> np.ndarray:
    if hasattr(sample_weight, "toarray"):
        raise TypeError(
            "sample_weight must be an array-like of numbers, got a sparse matrix; "
            "convert it with sample_weight.toarray().ravel()."
        )
    try:
        given = np.asarray(unmasked(sample_weight))
        if given.dtype.kind in "biufO":
            return given.astype(np.float64)
        reason = f"its type is {given.dtype.name}"
    except (TypeError, ValueError, OverflowError) as error:
        reason = str(error)
    raise ValueError(
        f"sample_weight must be one number a text, or a single one; it cannot be "
        f"read as numbers: {reason}."
    )


def _check_class_weight(class_weight: Any) -> None:
    if not isinstance(class_weight, dict):
        return
    for label, weight in class_weight.items():
        is_number = isinstance(weight, Real) and math.isfinite(_as_float(weight))
        if not is_number or weight < 0:
            raise ValueError(
                f"class_weight must hold finite numbers of at least 0, got {weight!r} "
                f"for {label!r}."
            )
