"""Validation of y: numbers."""

from __future__ import annotations

from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_consistent_length, column_or_1d

from skprotolm._data.labels import label_array, refuse_missing
from skprotolm._data.texts import first_of, shown
from skprotolm._data.weights import combine_weights

_LARGEST = 1e150


def encode_numbers(
    y: Any, n_texts: int, sample_weight: Any, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Validate y and the weights.

    `name` is the name of the estimator in error messages. Returns the values, weights
    of mean 1 and rows of the texts whose weight is not 0.
    """
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None.")
    values = as_numbers(y, "y", n_texts)
    weights = combine_weights(values, sample_weight, None)
    rows = np.flatnonzero(weights)
    values, weights = values[rows], weights[rows]
    if np.ptp(values / (np.abs(values).max() or 1.0)) == 0:
        raise ValueError(
            f"y must hold at least two different numbers, got only {values[0]} "
            f"(n_samples={len(values)} of positive weight)."
        )
    return values, weights / weights.mean(), rows


def as_numbers(y: Any, name: str, n_texts: int | None = None) -> np.ndarray:
    """Return a column of finite numbers as float64, (n,)."""
    if issparse(y):
        raise ValueError(
            f"{name} must be one column of numbers, got a sparse matrix; pass "
            f"{name}.toarray().ravel()."
        )
    array = label_array(name, y)
    if array.ndim > 1 and array.shape[1:] != (1,):
        raise ValueError(
            f"{name} must hold one number per text, got a matrix of shape "
            f"{array.shape}. For several numbers per text, wrap the regressor in "
            f"sklearn.multioutput.MultiOutputRegressor."
        )
    array = column_or_1d(array, warn=True)
    if n_texts is not None:
        check_consistent_length(range(n_texts), array)
    if array.dtype.kind in "mMV":
        raise TypeError(
            f"{name} must hold numbers, got {array.dtype.name}; convert them, for "
            f"example to days with (y - y.min()) / numpy.timedelta64(1, 'D')."
        )
    if array.dtype.kind not in "biuf":
        values = array.tolist()
        refuse_missing(name, y, values)
        for row, value in enumerate(values):
            _check_number(row, value, name)
    numbers = array.astype(np.float64)
    refuse_missing(name, y, numbers.tolist())
    infinite = np.flatnonzero(np.isinf(numbers)).tolist()
    if infinite:
        is_y = name.startswith("y")
        remedy = f"drop those rows of X and {name}" if is_y else "pass finite numbers"
        raise ValueError(
            f"Input {name} contains infinity: row {infinite[0]} is "
            f"{numbers[infinite[0]]}{first_of(infinite)}; {remedy}."
        )
    large = np.flatnonzero(np.abs(numbers) > _LARGEST).tolist()
    if large:
        raise ValueError(
            f"{name} must hold numbers of at most {_LARGEST:g}, whose squares are "
            f"floats: row {large[0]} is {numbers[large[0]]}{first_of(large)}; change "
            f"their unit."
        )
    return numbers


def _check_number(row: int, value: Any, name: str) -> None:
    if not isinstance(value, (Real, Decimal, np.bool_)):
        remedy = "convert them with float()"
        if isinstance(value, str):
            remedy = "convert numbers with float(), or use ProtoLMClassifier for labels"
        raise ValueError(
            f"{name} must hold numbers: row {row} is {shown(value)}; {remedy}."
        )
    try:
        float(value)
    except OverflowError as error:
        raise ValueError(f"Row {row} of {name} is too large for a float.") from error
