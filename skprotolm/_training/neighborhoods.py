"""What surrounds texts and prototypes: purity, usage, label agreement, duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import pairwise_distances_argmin
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from skprotolm._network.blocks import row_blocks

N_NEIGHBORS = 10  # of purity and of label agreement
_COINCIDENT = 0.01  # for unit vectors ‖a − b‖² is 2 − 2·cos: a cosine of 0.995
_SAMPLE = 5000  # texts of which label agreement is computed
# Prototypes that are compared with all texts at once, unless these are many.
_CHUNK = 256


def distinct_ids(values: Sequence[Any]) -> np.ndarray:
    """Number distinct values in the order in which they come, (n,)."""
    ids: dict[Any, int] = {}
    return np.array([ids.setdefault(value, len(ids)) for value in values])


def label_agreement(vectors: np.ndarray, strata: np.ndarray, seed: int) -> float:
    """Return how well nearest neighbors share a stratum: 0 is chance, 1 always.

    As for a prototype's purity, these are the min(10, n_c − 1) nearest other texts, n_c
    the texts of the stratum; chance is the fraction of the stratum among the others.

    Parameters
    ----------
    vectors : ndarray of shape (n, P)
        The frozen encoder's sentence vectors, of distinct texts.
    strata : ndarray of shape (n,), int
    seed : int
        Of the sample, where there are many texts.
    """
    rows = np.random.RandomState(seed).permutation(len(strata))[:_SAMPLE]
    unit, strata = normalize(vectors[rows]), strata[rows]
    n_mates = np.bincount(strata)[strata] - 1
    if not n_mates.any():
        return 0.0
    k = min(N_NEIGHBORS, int(n_mates.max()))
    near = NearestNeighbors(n_neighbors=k).fit(unit).kneighbors(return_distance=False)
    counted = np.arange(k) < n_mates[:, None]
    agree = (strata[near] == strata[:, None]) & counted
    used = n_mates > 0
    agreement = np.mean(agree[used].sum(axis=1) / counted[used].sum(axis=1))
    chance = np.mean(n_mates[used] / (len(rows) - 1))
    return float(max(0.0, (agreement - chance) / max(1 - chance, 1e-9)))


def nearest_prototypes(assigned: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Return the nearest prototype of each text, (n,).

    Parameters
    ----------
    assigned : ndarray of shape (M,), int
        The row of each prototype's text.
    texts : ndarray of shape (n, H)
        Vectors of the training texts, where distance is Euclidean.
    """
    return pairwise_distances_argmin(texts, texts[assigned])


def count_usage(
    assigned: np.ndarray, nearest: np.ndarray, text_ids: np.ndarray
) -> np.ndarray:
    """Count the other training texts whose nearest prototype each is, (M,).

    Parameters
    ----------
    assigned : ndarray of shape (M,), int
        The row of each prototype's text.
    nearest : ndarray of shape (n,), int
        The nearest prototype of each text.
    text_ids : ndarray of shape (n,), int
        Which distinct text each row holds.
    """
    others = text_ids != text_ids[assigned[nearest]]
    return np.bincount(nearest[others], minlength=len(assigned))


def measure_purity(
    assigned: np.ndarray, texts: np.ndarray, strata: np.ndarray, text_ids: np.ndarray
) -> np.ndarray:
    """Return the purity of each prototype, (M,), NaN where no other text counts.

    It is the fraction of its own stratum among the min(10, n_c − 1) nearest other
    training texts, n_c the distinct texts of the stratum. Further rows of the
    prototype's own text do not count. Parameters are as in `nearest_prototypes` and
    `count_usage`; `strata` (n,) are those of the texts.
    """
    sizes = np.array(
        [len(np.unique(text_ids[strata == c])) for c in range(strata.max() + 1)]
    )
    n_counted = np.minimum(N_NEIGHBORS, sizes[strata[assigned]] - 1)
    near = _nearest_others(assigned, texts, text_ids)
    is_counted = np.arange(near.shape[1]) < n_counted[:, None]
    agree = (strata[near] == strata[assigned, None]) & is_counted
    purities = np.full(len(assigned), np.nan)
    np.divide(agree.sum(axis=1), n_counted, out=purities, where=n_counted > 0)
    return purities


def _nearest_others(
    assigned: np.ndarray, texts: np.ndarray, text_ids: np.ndarray
) -> np.ndarray:
    """Return the rows of the nearest other texts of each prototype, (M, 10).

    The nearest comes first; rows of the prototype's own text come last.
    """
    texts = texts.astype(np.float64)
    squares = np.einsum("nh,nh->n", texts, texts)
    n_near = min(N_NEIGHBORS, len(texts))
    near = []
    for chunk in row_blocks(len(assigned), len(texts), max_rows=_CHUNK):
        rows = assigned[chunk]
        # ‖a − b‖² without ‖a‖², which is the same for all b.
        distances = squares - 2 * texts[rows] @ texts.T
        distances[text_ids[rows, None] == text_ids] = np.inf
        nearest = np.argpartition(distances, n_near - 1, axis=1)[:, :n_near]
        order = np.take_along_axis(distances, nearest, axis=1).argsort(axis=1)
        near.append(np.take_along_axis(nearest, order, axis=1))
    return np.concatenate(near)


def coincident(prototypes: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Return which prototypes nearly coincide with an earlier one of their stratum.

    Two do if ‖a − b‖² ≤ 0.01·‖a‖·‖b‖, a cosine of 0.995 for unit vectors. The earlier
    one must not coincide with another in turn, so that every prototype is near one
    that does not.

    Parameters
    ----------
    prototypes : ndarray of shape (M, H)
        Where distance is Euclidean.
    strata : ndarray of shape (M,), int

    Returns
    -------
    ndarray of shape (M,), bool
    """
    repeated = np.zeros(len(strata), dtype=bool)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        for i, near in enumerate(_near_earlier(prototypes[rows])):
            repeated[rows[i]] = not repeated[rows[near]].all()
    return repeated


def _near_earlier(vectors: np.ndarray) -> Iterator[np.ndarray]:
    """Yield for each vector which earlier ones nearly coincide with it."""
    vectors = vectors.astype(np.float64)
    squares = np.einsum("mh,mh->m", vectors, vectors)
    lengths = np.sqrt(squares)
    for chunk in row_blocks(len(vectors), len(vectors), max_rows=_CHUNK):
        gaps = squares[chunk, None] + squares - 2 * vectors[chunk] @ vectors.T
        near = gaps <= _COINCIDENT * lengths[chunk, None] * lengths
        for row, i in enumerate(range(chunk.start, chunk.stop)):
            yield np.flatnonzero(near[row, :i])
