"""The one door for y and weights: labels to class indices, weights to mean 1."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight

from skprotolm._inputs import is_missing, unmasked


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
        found = repr(classes.tolist()[0])
        raise ValueError(
            f"y must hold at least two classes, got only one class ({found}) among the "
            f"texts of positive weight. Classifier can't train when only one class is "
            f"present."
        )
    _check_class_weight(class_weight)
    weights = weights * compute_sample_weight(class_weight, labels)
    if not weights.sum() > 0:
        raise ValueError("class_weight gives every text the weight 0.")
    kept = np.flatnonzero(weights > 0)
    if kept.size < rows.size:  # a class of weight 0 is a class that is not there
        everywhere = np.zeros(n_texts)
        everywhere[rows[kept]] = weights[kept]
        return encode_targets(y, n_texts, everywhere, None, name)
    return Targets(classes, codes.astype(np.int64), weights / weights.mean(), rows)


def _checked_labels(y: Any, n_texts: int, name: str) -> np.ndarray:
    """Return y as one column of labels that can be told apart."""
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None.")
    if isinstance(y, (str, bytes, set, dict)):
        raise ValueError(f"y must be an array-like of labels, got {type(y).__name__}.")
    if isinstance(y, (list, tuple)):
        # As objects first: NumPy would write the 1 of [1, "a"] as "1".
        _check_objects(y)
    labels = y if hasattr(y, "toarray") else np.asarray(unmasked(y))
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise ValueError(
            f"Unknown label type: multilabel or multioutput. y must hold one label a "
            f"text, got a matrix of shape {labels.shape}."
        )
    labels = column_or_1d(labels, warn=True)
    if len(labels) != n_texts:
        raise ValueError(
            f"X and y must have one entry a text each. Found input variables with "
            f"inconsistent numbers of samples: [{n_texts}, {len(labels)}]"
        )
    if labels.dtype.kind == "f":
        _check_floats(labels)
    elif labels.dtype.kind in "OT":
        _check_objects(labels)
        labels = labels.astype(object)
    elif labels.dtype.kind not in "biuU":
        raise TypeError(
            f"y must hold labels of type str, int or bool, got {labels.dtype.name}; "
            f"convert them, for example with y.astype(str)."
        )
    return labels


def _check_objects(labels: Any) -> None:
    """Refuse missing labels, collections, and several kinds of label at once."""
    kinds = set()
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


def _kind(label: Any, row: int) -> str:
    """Return what one label is; only kinds that sort as labels do are let in."""
    if isinstance(label, str):
        return "str"
    if not isinstance(label, (Real, np.bool_)):
        raise ValueError(
            f"Unknown label type: row {row} of y is {label!r}, of type "
            f"{type(label).__name__}; y must hold labels of type str, int or bool."
        )
    if not isinstance(label, (Integral, np.bool_)):
        _check_floats(np.array([float(label)]), first_row=row)
    return "number"


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
            f"measurement."
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
    # Only ratios count, and the sum of numbers up to 1 does not overflow.
    return weights / (weights.max() or 1.0)


def _as_numbers(sample_weight: Any) -> np.ndarray:
    if hasattr(sample_weight, "toarray"):
        raise TypeError(
            "sample_weight must be an array-like of numbers, got a sparse matrix; "
            "convert it with sample_weight.toarray().ravel()."
        )
    try:
        return np.asarray(unmasked(sample_weight), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"sample_weight must be one number a text, or a single one; it cannot be "
            f"read as an array of numbers: {error}."
        ) from error


def _check_class_weight(class_weight: Any) -> None:
    if not isinstance(class_weight, dict):
        return
    for label, weight in class_weight.items():
        is_number = isinstance(weight, Real) and math.isfinite(weight)
        if not is_number or weight < 0:
            raise ValueError(
                f"class_weight must hold finite numbers of at least 0, got {weight!r} "
                f"for {label!r}."
            )
