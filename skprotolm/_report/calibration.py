"""Calibration: how often predictions of a probability are right."""

from __future__ import annotations

from typing import Any

import numpy as np

_N_BINS = 15


def calibration(is_true: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Return the calibration curve in 15 bins, and its error.

    The expected calibration error is the mean gap of the bins, weighted by their
    counts (Guo et al. 2017, "On Calibration of Modern Neural Networks").

    Parameters
    ----------
    is_true, probabilities : ndarray of shape (n,)
        Whether each of n predictions is right, and its probability.
    """
    numbers = np.minimum((probabilities * _N_BINS).astype(int), _N_BINS - 1)
    counts = np.bincount(numbers, minlength=_N_BINS)
    sums = (np.bincount(numbers, x, _N_BINS) for x in (probabilities, is_true))
    means = [total / np.maximum(counts, 1) for total in sums]
    bins = [
        {
            "low": b / _N_BINS,
            "high": (b + 1) / _N_BINS,
            "n": int(counts[b]),
            "probability": float(means[0][b]),
            "frequency": float(means[1][b]),
        }
        for b in np.flatnonzero(counts).tolist()
    ]
    gaps = [b["n"] * abs(b["frequency"] - b["probability"]) for b in bins]
    return {"bins": bins, "error": float(sum(gaps) / len(probabilities))}
