"""Prototypes onto real training texts: who goes where, and what stands around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.metrics import pairwise_distances_argmin

N_NEIGHBOURS = 10  # that a prototype's purity looks at
# Of unit vectors ‖a − b‖² is 2 − 2·cos: these are cosines of 0.995 and 0.9.
_COINCIDENT = 0.01
_ALIKE = 0.2


class Candidates(NamedTuple):
    """The training texts that prototypes may stand on: one row a distinct text."""

    rows: np.ndarray  # (K,) each distinct text's first row
    codes: np.ndarray  # (K,) its class
    text_ids: np.ndarray  # (n,) for each row, which distinct text it holds


def distinct_ids(values: Sequence[Any]) -> np.ndarray:
    """Number distinct values in the order in which they come, (n,)."""
    ids: dict[Any, int] = {}
    return np.array([ids.setdefault(value, len(ids)) for value in values])


def find_candidates(keys: Sequence[Any], codes: np.ndarray) -> Candidates:
    """Find the distinct texts that stand under one label only.

    Parameters
    ----------
    keys : sequence of hashable, length n
        What the encoder reads of each text: two texts of one key, which it cannot tell
        apart, are not distinct.
    codes : ndarray of shape (n,), int
    """
    text_ids = distinct_ids(keys)
    n_texts = text_ids.max() + 1
    lowest = np.full(n_texts, np.iinfo(codes.dtype).max)
    highest = np.full(n_texts, -1)
    np.minimum.at(lowest, text_ids, codes)
    np.maximum.at(highest, text_ids, codes)
    first_rows = np.unique(text_ids, return_index=True)[1]
    rows = first_rows[lowest == highest]
    return Candidates(rows, codes[rows], text_ids)


def assign(
    prototypes: np.ndarray, owner: np.ndarray, texts: np.ndarray, candidates: Candidates
) -> np.ndarray:
    """Give every prototype a distinct text of its class, at the least total distance.

    Parameters
    ----------
    prototypes : ndarray of shape (M, H)
    owner : ndarray of shape (M,), int
    texts : ndarray of shape (n, H)
        Vectors of all training texts, in the space where distance is Euclidean.
    candidates : Candidates

    Returns
    -------
    ndarray of shape (M,), int
        The row of each prototype's text.
    """
    assigned = np.empty(len(owner), dtype=np.int64)
    for code in np.unique(owner):
        mine = np.flatnonzero(owner == code)
        rows = candidates.rows[candidates.codes == code]
        costs = cdist(prototypes[mine], texts[rows], "sqeuclidean")
        # Among a prototype's n nearest texts one is left free by the n - 1 others,
        # so the best assignment needs no text beyond these.
        near = min(len(mine), len(rows)) - 1
        columns = np.unique(np.argpartition(costs, near, axis=1)[:, : near + 1])
        at, chosen = linear_sum_assignment(costs[:, columns])
        assigned[mine[at]] = rows[columns[chosen]]
    return assigned


class Surroundings(NamedTuple):
    """What stands around each prototype in the training set."""

    purity: np.ndarray  # (M,) float, NaN where there is no other text to look at
    usage: np.ndarray  # (M,) int


def worth_keeping(
    assigned: np.ndarray, texts: np.ndarray, codes: np.ndarray, candidates: Candidates
) -> np.ndarray:
    """Find the prototypes that stand for other texts and differ from one another.

    One a class at a time, the prototype that lies nearest to another one of its class
    is let go, if no other training text has it as its nearest, or if the two nearly
    coincide and it is the less used. No class loses its last.

    Returns
    -------
    ndarray of shape (number kept,), int
        Positions in `assigned`, rising.
    """
    kept = np.arange(len(assigned))
    while True:
        rows = assigned[kept]
        usage = _count_usage(rows, texts, candidates)
        gone = []
        for code in np.unique(codes[rows]):
            mine = np.flatnonzero(codes[rows] == code)
            gone += mine[_weakest(texts[rows[mine]], usage[mine])].tolist()
        if not gone:
            return kept
        kept = np.delete(kept, gone)


def _weakest(vectors: np.ndarray, usage: np.ndarray) -> np.ndarray:
    """Find the prototype of a class that can go first, (1,), or none, (0,)."""
    gaps = _relative_gaps(vectors)
    # Whether the other one is used more, or as much and stands before it.
    more = usage[None, :] > usage[:, None]
    before = (usage[None, :] == usage[:, None]) & np.tri(len(usage), k=-1, dtype=bool)
    doubled = ((gaps < _ALIKE) & (more | before)).any(axis=1)
    nearness = np.where((usage == 0) | doubled, gaps.min(axis=1), np.inf)
    weakest = len(usage) - 1 - nearness[::-1].argmin()  # of equals the last
    return np.array([weakest] if np.isfinite(nearness[weakest]) else [], dtype=np.int64)


def _relative_gaps(vectors: np.ndarray) -> np.ndarray:
    """Return ‖a − b‖² / (‖a‖·‖b‖) of all pairs, inf with itself, (M, M)."""
    lengths = np.linalg.norm(vectors, axis=1)
    scale = np.maximum(np.outer(lengths, lengths), np.finfo(vectors.dtype).tiny)
    gaps = cdist(vectors, vectors, "sqeuclidean") / scale
    np.fill_diagonal(gaps, np.inf)
    return gaps


def _count_usage(
    assigned: np.ndarray, texts: np.ndarray, candidates: Candidates
) -> np.ndarray:
    """Count the other training texts that have each prototype as their nearest."""
    ids = candidates.text_ids
    nearest = pairwise_distances_argmin(texts, texts[assigned])
    others = ids != ids[assigned[nearest]]
    return np.bincount(nearest[others], minlength=len(assigned))


def survey(
    assigned: np.ndarray, texts: np.ndarray, codes: np.ndarray, candidates: Candidates
) -> Surroundings:
    """Measure the purity and usage of prototypes that stand on training texts.

    Purity is the share of the own class among the min(10, n_c − 1) nearest other
    training texts, n_c the distinct texts of the class; usage is how many other
    training texts have the prototype as their nearest. Further rows of the
    prototype's own text do not count.
    """
    M = len(assigned)
    purity = np.full(M, np.nan)
    ids = candidates.text_ids
    class_sizes = np.array(
        [len(np.unique(ids[codes == code])) for code in range(codes.max() + 1)]
    )
    for j, row in enumerate(assigned):
        n_neighbours = min(N_NEIGHBOURS, class_sizes[codes[row]] - 1)
        if n_neighbours:
            distances = ((texts - texts[row]) ** 2).sum(axis=1)
            distances[ids == ids[row]] = np.inf
            near = np.argpartition(distances, n_neighbours - 1)[:n_neighbours]
            purity[j] = np.mean(codes[near] == codes[row])
    return Surroundings(purity, _count_usage(assigned, texts, candidates))


def count_coincident(prototypes: np.ndarray, owner: np.ndarray) -> int:
    """Count the prototypes that nearly coincide with an earlier one of their class.

    Two do where ‖a − b‖² < 0.01·‖a‖·‖b‖: they quote texts that the model cannot tell
    apart.

    Parameters
    ----------
    prototypes : ndarray of shape (M, H)
        In the space where distance is Euclidean.
    owner : ndarray of shape (M,), int
    """
    count = 0
    for code in np.unique(owner):
        near = _relative_gaps(prototypes[owner == code]) < _COINCIDENT
        count += int(np.triu(near, k=1).any(axis=0).sum())
    return count
