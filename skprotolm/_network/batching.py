"""Index batches of texts of similar length, which need little padding."""

from __future__ import annotations

import numpy as np

# Training batches are sorted by length within windows of this many batches: enough to
# remove nearly all padding, and few enough to keep batches of large datasets random.
_WINDOW = 100


def prediction_batches(
    lengths: np.ndarray, batch_size: int, n_windows: np.ndarray | None = None
) -> list[np.ndarray]:
    """Split texts into batches of similar length, longest first.

    Parameters
    ----------
    lengths : ndarray of shape (n,), int
        Tokens per text.
    batch_size : int
    n_windows : ndarray of shape (n,), int, default=None
        Windows per text; None if each has one. A batch has at most `batch_size`
        windows, or one text.

    Returns
    -------
    list of ndarray of int
        Index batches that contain every index once. Because the longest texts come
        first, a lack of memory shows in the first batch.
    """
    order = np.argsort(-lengths, kind="stable")
    n_windows = np.ones_like(lengths) if n_windows is None else n_windows
    starts, size = [0], 0
    for i, n in enumerate(n_windows[order].tolist()):
        if size and size + n > batch_size:
            starts.append(i)
            size = 0
        size += n
    return np.split(order, starts[1:])


def training_batches(
    lengths: np.ndarray, batch_size: int, rng: np.random.RandomState
) -> list[np.ndarray]:
    """Shuffle texts into batches of similar length, in random order."""
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), _WINDOW * batch_size):
        window = order[start : start + _WINDOW * batch_size]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [
            window[i : i + batch_size] for i in range(0, len(window), batch_size)
        ]
    return [batches[i] for i in rng.permutation(len(batches))]
