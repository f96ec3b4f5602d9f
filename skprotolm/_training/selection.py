"""Which training texts are quoted: those that stand for many texts of their stratum.

Letters: n texts, P their dimension.
"""

from __future__ import annotations

import math

import numpy as np

_CANDIDATES = 5000  # per stratum; larger strata are sampled
# Probability that the texts drawn per step include none of the best (Mirzasoleiman et
# al. 2015).
_MISSED = 0.01
# Two texts that are nearest to each other often have equal gains. Which gain is larger
# by rounding depends on the processor; the first one is chosen.
_TIE = 1e-6


def representative(
    vectors: np.ndarray, weights: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """Choose texts such that every text is similar to one of them.

    Maximizes the facility location Σ_i w_i·max_{j chosen} cos(i, j) greedily, from a
    sample of the remaining texts per step ("stochastic greedy", Mirzasoleiman et al.,
    "Lazier Than Lazy Greedy", AAAI 2015).

    Parameters
    ----------
    vectors : ndarray of shape (n, P)
        Unit vectors of the texts of one stratum.
    weights : ndarray of shape (n,)
    count : int
        The number of texts to choose.
    seed : int

    Returns
    -------
    ndarray of shape (min(count, n),), int
        Rows of the chosen texts, ascending.
    """
    rng = np.random.RandomState(seed)
    rows = np.sort(rng.permutation(len(vectors))[: max(_CANDIDATES, count)])
    if count >= len(rows):
        return rows
    cosines = vectors[rows] @ vectors[rows].T
    weights, n = weights[rows], len(rows)
    n_drawn = math.ceil(n / count * -math.log(_MISSED))
    covered = np.full(n, -1.0, dtype=cosines.dtype)
    remaining = np.arange(n)
    chosen = []
    for _ in range(count):
        drawn = remaining
        if n_drawn < len(remaining):
            drawn = remaining[rng.randint(len(remaining), size=n_drawn)]
        gains = np.maximum(cosines[drawn], covered) @ weights
        best = drawn[(gains >= gains.max() - _TIE * np.abs(gains).max()).argmax()]
        chosen.append(best)
        remaining = remaining[remaining != best]
        covered = np.maximum(covered, cosines[best])
    return rows[np.sort(chosen)]
