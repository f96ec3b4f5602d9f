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
_SAMPLE = 10_000  # texts, or fewer,
_LEAST = 1000  # but not fewer than these,
_NUMBERS = 10**8  # where there are so many prototypes that this many are compared
_CHUNK = 1024  # texts that are compared at once, unless there are many prototypes


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
    ids, strata = data.candidates.text_ids, data.targets.strata[quoted]
    n_sample = min(_SAMPLE, max(_LEAST, _NUMBERS // len(quoted)))
    rows = np.random.RandomState(data.seed).permutation(len(vectors))[:n_sample]
    exact, n = layer.exact(), len(vectors)
    return limit_of(exact, strata, vectors[rows], ids[rows], ids[quoted], n)


def limit_of(
    exact: PrototypeLayer,
    strata: np.ndarray,
    vectors: Tensor,
    ids: np.ndarray,
    quoted: np.ndarray,
    n_texts: int,
) -> float | None:
    """Return the same from a sample of the training texts.

    Parameters
    ----------
    exact : PrototypeLayer
        In float64.
    strata : ndarray of shape (M,), int
        Of the prototypes.
    vectors : Tensor of shape (B, H)
    ids : ndarray of shape (B,), int
        Of distinct texts.
    quoted : ndarray of shape (M,), int
        The ids of the texts that prototypes quote.
    n_texts : int
        All training texts.
    """
    parts = [
        _novelty(exact, strata, vectors[rows].cpu().double(), ids[rows, None] == quoted)
        for rows in exact.blocks(vectors, max_rows=_CHUNK)
    ]
    of_texts, of_midpoints = (
        np.sort(scores[np.isfinite(scores)])
        for scores in map(np.concatenate, zip(*parts, strict=True))
    )
    if len(of_texts) < _FEWEST:
        return None
    limits = [_exceeded(of_texts, _RATE * min(1.0, n_texts / _MANY))]
    if len(of_midpoints):
        limits.append(_exceeded(of_midpoints, _RATE))
    return max(limits)


def _novelty(
    layer: PrototypeLayer, strata: np.ndarray, vectors: Tensor, itself: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the novelty of texts, and of their midpoints, (B,).

    A midpoint is that of a text and the nearest prototype of another stratum than the
    text's nearest one. The text itself and that prototype are not compared with it. It
    is NaN if there is no other stratum.
    """
    points = layer.to_euclidean(vectors)
    distances = torch.cdist(points, layer.positions).numpy()
    distances[itself] = np.inf
    distances[strata == strata[distances.argmin(axis=1), None]] = np.inf
    other = distances.argmin(axis=1)
    midpoints = (points + layer.positions[other]) / 2
    excluded = itself | (other[:, None] == np.arange(len(strata)))
    of_texts = layer.novelty_at(points, torch.from_numpy(itself)).numpy()
    of_midpoints = layer.novelty_at(midpoints, torch.from_numpy(excluded)).numpy()
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
