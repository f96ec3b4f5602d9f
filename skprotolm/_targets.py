"""The one door for y and weights: labels to class indices, weights to mean 1."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from skprotolm._inputs import is_missing


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
            "All values of sample_weight are 0, so nothing can be learned."
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
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None.")
    labels = np.asarray(y)
    _refuse_missing(labels)
    kind = type_of_target(y, input_name="y")
    if kind.startswith("multilabel"):
        raise ValueError(
            f"Unknown label type: {kind}. y must hold one label a text, got a matrix "
            f"of shape {labels.shape}."
        )
    check_classification_targets(y)
    labels = column_or_1d(y, warn=True)
    if len(labels) != n_texts:
        raise ValueError(
            f"X and y must have one entry a text each. Found input variables with "
            f"inconsistent numbers of samples: [{n_texts}, {len(labels)}]"
        )
    if labels.dtype == object:
        kinds = sorted({type(label).__name__ for label in labels})
        if len(kinds) > 1 and "str" in kinds:
            raise TypeError(
                f"y mixes labels of several types ({', '.join(kinds)}); use one type, "
                f"for example str."
            )
    return labels


def _refuse_missing(labels: np.ndarray) -> None:
    if labels.dtype.kind == "f":
        missing = ~np.isfinite(labels)
        if missing.any():
            at = np.argwhere(missing)[0].tolist()
            raise ValueError(
                f"Input y contains {'NaN' if np.isnan(labels).any() else 'infinity'} "
                f"(first at row {at[0]}); drop those rows of X and y."
            )
    elif labels.dtype == object:
        for row, label in enumerate(labels.ravel()):
            if is_missing(label):
                raise ValueError(
                    f"Input y contains NaN: row {row} is {label}; drop that row of X "
                    f"and y."
                )


def _checked_weights(sample_weight: Any, n_texts: int) -> np.ndarray:
    if sample_weight is None:
        return np.ones(n_texts)
    weights = np.asarray(sample_weight, dtype=np.float64)
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
    return weights


def _check_class_weight(class_weight: Any) -> None:
    if not isinstance(class_weight, dict):
        return
    for label, weight in class_weight.items():
        if not np.isfinite(weight) or weight < 0:
            raise ValueError(
                f"class_weight must hold finite numbers of at least 0, got {weight!r} "
                f"for {label!r}."
            )
