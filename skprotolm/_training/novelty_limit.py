"""The novelty above which a text is called unlike the training texts."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from skprotolm._network.prototypes import PrototypeLayer
from skprotolm._training.splits import FitData

# The fraction of training texts above the limit, from 5,000 texts on. For n texts it is
# n/5,000 of that, since small training sets are memorized. Of new texts up to twice as
# many are above the limit.
_RATE, _MANY = 0.02, 5000
_FEWEST = 20  # texts
_SAMPLE = 10_000  # texts, or fewer
_CHUNK = 1024  # texts that are compared at once


def find_novelty_limit(
    layer: PrototypeLayer, data: FitData, vectors: Tensor, quoted: np.ndarray
) -> float | None:
    """Return the novelty that few of the training texts exceed, and few midpoints.

    The novelty of a text that is a prototype is that without this prototype, since new
    texts have none of their own.

    A model that memorized its training texts has them near their prototypes, and new
    texts between the classes. Whatever it memorized, a text half way between two
    classes is like the texts of both.

    Parameters
    ----------
    layer : PrototypeLayer
        Its vectors are final.
    data : FitData
    vectors : Tensor of shape (n, H)
        Of the training texts.
    quoted : ndarray of shape (M,)
        The row of each prototype's text.

    Returns
    -------
    float or None
        None for fewer than 20 texts.
    """
    exact, vectors = layer.exact(), vectors.cpu().double()
    rows = np.random.RandomState(data.seed).permutation(len(vectors))[:_SAMPLE]
    chunks = [rows[i : i + _CHUNK] for i in range(0, len(rows), _CHUNK)]
    parts = [_novelty(exact, data, vectors, quoted, chunk) for chunk in chunks]
    of_texts, of_midpoints = (
        np.sort(scores[np.isfinite(scores)])
        for scores in map(np.concatenate, zip(*parts, strict=True))
    )
    if len(of_texts) < _FEWEST:
        return None
    limits = [_exceeded(of_texts, _RATE * min(1.0, len(vectors) / _MANY))]
    if len(of_midpoints):
        limits.append(_exceeded(of_midpoints, _RATE))
    return max(limits)


def _novelty(
    layer: PrototypeLayer,
    data: FitData,
    vectors: Tensor,
    quoted: np.ndarray,
    rows: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the novelty of the texts in `rows`, and of their midpoints (B,).

    A midpoint is that of a text and the nearest quoted one of another stratum, neither
    of which is compared with it. It is NaN if there is no such text.
    """
    ids, strata = data.candidates.text_ids, data.targets.strata
    itself = ids[rows, None] == ids[quoted]
    distances = torch.cdist(
        layer.to_euclidean(vectors[rows]), layer.to_euclidean(vectors[quoted])
    ).numpy()
    distances[strata[rows, None] == strata[quoted]] = np.inf
    nearest = quoted[distances.argmin(axis=1)]
    partner = ids[nearest, None] == ids[quoted]
    midpoints = (vectors[rows] + vectors[nearest]) / 2
    of_texts = layer.novelty(vectors[rows], torch.from_numpy(itself)).numpy()
    of_midpoints = layer.novelty(midpoints, torch.from_numpy(itself | partner)).numpy()
    return of_texts, np.where(np.isinf(distances).all(axis=1), np.nan, of_midpoints)


def _exceeded(scores: np.ndarray, rate: float) -> float:
    """Return the score, of ascending ones, that a fraction of others exceeds."""
    return float(scores[min(conformal_rank(len(scores), rate), len(scores)) - 1])


def conformal_rank(n: int, rate: float) -> int:
    """Return k = ⌈(n + 1)(1 − rate)⌉, at least 1 and at most n + 1.

    The k-th smallest of n scores is exceeded by one more exchangeable score with a
    probability of at most `rate`, if k ≤ n (split conformal prediction; Vovk, Gammerman
    and Shafer 2005).
    """
    # The product may be a rounding error above an integer.
    return max(1, math.ceil((n + 1) * (1 - rate) - 1e-9))
