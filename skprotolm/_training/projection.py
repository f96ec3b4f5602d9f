"""Projection of prototypes: targets, assignment to texts, and pruning.

Letters: M prototypes, n training texts, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.preprocessing import normalize
from torch import Tensor

from skprotolm._config import FitConfig
from skprotolm._network.prototypes import MixtureLayer, PrototypeLayer
from skprotolm._training.initialization import cluster_centers
from skprotolm._training.neighborhoods import (
    NEAR_DUPLICATE,
    count_usage,
    relative_gaps,
)
from skprotolm._training.splits import Candidates, FitData

# The weight of texts that are misclassified; not 0, since a class may have no others.
_MISCLASSIFIED = 1e-3


def cluster_targets(
    layer: MixtureLayer,
    data: FitData,
    config: FitConfig,
    vectors: Tensor,
    outputs: Tensor,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the centers of what each stratum has become, (M, D), and texts (n, D).

    Prototypes start close together, and after training they are closer to each other
    than the texts around them. Texts are weighted by the probability of their true
    class; misclassified texts get a weight of 0.001, otherwise a cluster of them would
    get a prototype.

    Clusters are formed in the learned and the pretrained space side by side: inside a
    class the model has no reason to separate topics, so that by its space alone the
    quoted text would tell a reader little.
    """
    if not config.cluster_before_projection:
        return learned_positions(layer, vectors)
    targets, learned = data.targets, layer.to_euclidean(vectors).numpy()
    texts = learned
    if config.cluster_in_pretrained_space:
        texts = join_spaces(learned, data.pretrained.numpy(), targets.strata)
    values = torch.from_numpy(targets.values)
    p = layer.readout.true_probability(outputs, values)
    weights = targets.weights * (p.numpy() + _MISCLASSIFIED)
    counts = config.prototype_counts
    centers = cluster_centers(texts, targets.strata, weights, counts, data.seed)
    # Each prototype, with the prior it learned, takes the cluster nearest to it.
    positions = layer.to_euclidean(layer.vectors).cpu().numpy()
    strata = prototype_strata(config)
    rows = np.arange(len(strata))
    as_learned = normalize(centers[:, : positions.shape[1]])
    matched = assign(positions, strata, as_learned, Candidates(rows, strata, rows))
    return centers[matched], texts


def learned_positions(
    layer: PrototypeLayer, vectors: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Return where prototypes are (M, H), and texts (n, H), in the same space."""
    positions = layer.to_euclidean(layer.vectors).cpu().numpy()
    return positions, layer.to_euclidean(vectors).numpy()


def published_targets(
    layer: PrototypeLayer,
    data: FitData,
    config: FitConfig,
    vectors: Tensor,
    outputs: Tensor,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the learned positions; each prototype takes its nearest text."""
    return learned_positions(layer, vectors)


PROJECTION_TARGETS: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "mixture": cluster_targets,
    "proto-lm": published_targets,
}


def prototype_strata(config: FitConfig) -> np.ndarray:
    """Return the stratum of each prototype until some are pruned, (M,)."""
    counts = config.prototype_counts
    return np.repeat(np.arange(len(counts)), counts)


def join_spaces(
    learned: np.ndarray, pretrained: np.ndarray, strata: np.ndarray
) -> np.ndarray:
    """Return learned and pretrained vectors side by side, (n, H + P), of length 1.

    Both are scaled to vary equally inside a stratum.
    """
    pretrained = normalize(pretrained)
    scatters = [_scatter(vectors, strata) for vectors in (learned, pretrained)]
    scale = math.sqrt(scatters[0] / max(scatters[1], 1e-12))
    return np.hstack([learned, scale * pretrained]) / math.hypot(1.0, scale)


def _scatter(vectors: np.ndarray, strata: np.ndarray) -> float:
    """Return the mean squared distance of vectors to the mean of their stratum."""
    sizes = np.bincount(strata)
    within = [
        sizes[stratum] * vectors[strata == stratum].var(axis=0).sum()
        for stratum in np.flatnonzero(sizes)
    ]
    return float(sum(within) / len(strata))


def assign(
    prototypes: np.ndarray,
    strata: np.ndarray,
    texts: np.ndarray,
    candidates: Candidates,
) -> np.ndarray:
    """Give every prototype a distinct text of its stratum, at the least total distance.

    Parameters
    ----------
    prototypes : ndarray of shape (M, D)
    strata : ndarray of shape (M,), int
    texts : ndarray of shape (n, D)
        Vectors of all training texts, where distance is Euclidean.
    candidates : Candidates

    Returns
    -------
    ndarray of shape (M,), int
        The row of each prototype's text.
    """
    assigned = np.empty(len(strata), dtype=np.int64)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        rows = candidates.rows[candidates.strata == stratum]
        costs = cdist(prototypes[members], texts[rows], "sqeuclidean")
        # Among a prototype's n nearest texts one is left free by the n - 1 others, so
        # that the best assignment needs no text beyond these.
        near = min(len(members), len(rows)) - 1
        columns = np.unique(np.argpartition(costs, near, axis=1)[:, : near + 1])
        matched, chosen = linear_sum_assignment(costs[:, columns])
        assigned[members[matched]] = rows[columns[chosen]]
    return assigned


def prune(
    assigned: np.ndarray, texts: np.ndarray, strata: np.ndarray, candidates: Candidates
) -> np.ndarray:
    """Return the prototypes that are left without unused and near-duplicate ones.

    One per stratum at a time, the prototype nearest to another one of its stratum is
    pruned if no other training text has it as its nearest, or if the two nearly
    coincide (cosine above 0.9) and it is the less used. No stratum loses its last.

    Returns
    -------
    ndarray of shape (number kept,), int
        Positions in `assigned`, ascending.
    """
    kept = np.arange(len(assigned))
    while True:
        rows = assigned[kept]
        usage = count_usage(rows, texts, candidates.text_ids)
        pruned = []
        for stratum in np.unique(strata[rows]):
            members = np.flatnonzero(strata[rows] == stratum)
            weakest = _weakest(texts[rows[members]], usage[members])
            pruned += members[weakest].tolist()
        if not pruned:
            return kept
        kept = np.delete(kept, pruned)


def _weakest(vectors: np.ndarray, usage: np.ndarray) -> np.ndarray:
    """Return the prototype of a stratum that is pruned first, (1,), or none, (0,)."""
    gaps = relative_gaps(vectors)
    # Whether the other one is used more, or equally and precedes it.
    more = usage[None, :] > usage[:, None]
    before = (usage[None, :] == usage[:, None]) & np.tri(len(usage), k=-1, dtype=bool)
    duplicate = ((gaps < NEAR_DUPLICATE) & (more | before)).any(axis=1)
    nearness = np.where((usage == 0) | duplicate, gaps.min(axis=1), np.inf)
    weakest = len(usage) - 1 - nearness[::-1].argmin()  # the last among equals
    return np.array([weakest] if np.isfinite(nearness[weakest]) else [], dtype=np.int64)
