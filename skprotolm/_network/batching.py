"""Lengths to index batches, so that texts of one batch need little padding."""

from __future__ import annotations

import numpy as np

# Training batches are sorted by length within windows of this many batches: wide
# enough that padding all but vanishes, narrow enough that batches stay mixed on
# data sets larger than one window.
_WINDOW = 100


def prediction_batches(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut all texts into batches of similar length, longest first.

    Parameters
    ----------
    lengths : ndarray of shape (n,), int
        Tokens a text.
    batch_size : int

    Returns
    -------
    list of ndarray of int
        Index batches; together they hold every index once. The longest come first,
        so that a lack of memory shows at once.
    """
    order = np.argsort(-lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def training_batches(
    lengths: np.ndarray, batch_size: int, rng: np.random.RandomState
) -> list[np.ndarray]:
    """Shuffle all texts into batches of similar length, in random order."""
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), _WINDOW * batch_size):
        window = order[start : start + _WINDOW * batch_size]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [
            window[i : i + batch_size] for i in range(0, len(window), batch_size)
        ]
    return [batches[i] for i in rng.permutation(len(batches))]
