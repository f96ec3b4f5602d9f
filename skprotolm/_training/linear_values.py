"""A linear prediction of values from text vectors, for the choice of quoted texts.

Letters: n texts, H hidden size, D numbers per text.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import normalize

_ALPHAS = (0.01, 0.1, 1.0, 10.0)


def linear_values(
    vectors: np.ndarray, values: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Regress standardized values on unit text vectors.

    Where texts of similar values are near each other, few of them suffice for a mean
    that is as accurate as the linear prediction.

    Parameters
    ----------
    vectors : ndarray of shape (n, H)
    values : ndarray of shape (n,) or (n, D)
        Standardized numbers, or centered indicators of labels.
    weights : ndarray of shape (n,)
        Of the texts, positive.

    Returns
    -------
    errors : ndarray of shape (n,)
        Absolute errors, or lengths of D errors, each of a fit without the text.
    coefficients : ndarray of shape (H, D)
    """
    unit = normalize(vectors.astype(np.float64))
    ridge = RidgeCV(_ALPHAS, store_cv_results=True)
    ridge.fit(unit, values, sample_weight=weights)
    # These are squared, and multiplied by the weights.
    squares = ridge.cv_results_[..., _ALPHAS.index(ridge.alpha_)]
    if squares.ndim > 1:
        squares = squares.sum(axis=1)
    return np.sqrt(squares / weights), np.atleast_2d(ridge.coef_).T
