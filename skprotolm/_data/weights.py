"""Validation of sample_weight and class_weight."""

from __future__ import annotations

import sys
from numbers import Real
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight

from skprotolm._data.texts import unmasked

# Smaller weights, relative to the largest, vanish in fp32 and count as 0.
_NEGLIGIBLE = 1e-30

_MAX = sys.float_info.max


def combine_weights(
    labels: np.ndarray, sample_weight: Any, class_weight: Any
) -> np.ndarray:
    """Return the product of sample weight and class weight per text, at most 1.

    Parameters
    ----------
    labels : ndarray of shape (n,)
    sample_weight : array-like of shape (n,), float or None
    class_weight : dict, "balanced" or None
        "balanced" counts only texts of positive sample weight.
    """
    weights = _scale(_check_weights(sample_weight, labels))
    check_class_weight(class_weight)
    used = weights > 0
    weights[used] *= _scale(compute_sample_weight(class_weight, labels[used]))
    if not weights.any():
        raise ValueError(
            "All weights are zero: sample_weight or class_weight must give at least "
            "one text a positive weight."
        )
    return _scale(weights)


def _scale(weights: np.ndarray) -> np.ndarray:
    """Divide by the maximum, so that sums of weights do not overflow."""
    scaled = weights / (weights.max() or 1.0)
    return np.where(scaled < _NEGLIGIBLE, 0.0, scaled)


def _check_weights(sample_weight: Any, labels: np.ndarray) -> np.ndarray:
    weights = sample_weight
    if sample_weight is not None and not issparse(sample_weight):
        try:
            weights = np.asarray(unmasked(sample_weight))
            if weights.dtype.kind not in "biufO":
                raise TypeError(f"the data type is {weights.dtype.name}")
            weights = weights.astype(np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"sample_weight must be one number per text, or a single number, got "
                f"{type(sample_weight).__name__}: {error}."
            ) from error
        if weights.ndim == 0:
            weights = np.full(len(labels), weights)
    return _check_sample_weight(
        weights, labels, dtype=np.float64, ensure_non_negative=True
    )


def check_class_weight(class_weight: Any) -> None:
    """Refuse weights of a dict that are not finite numbers of at least 0."""
    for label, weight in class_weight.items() if isinstance(class_weight, dict) else ():
        if not isinstance(weight, Real) or not 0 <= weight <= _MAX:  # type: ignore[operator]
            raise ValueError(
                f"class_weight must hold finite numbers of at least 0, got {weight!r} "
                f"for {label!r}."
            )
