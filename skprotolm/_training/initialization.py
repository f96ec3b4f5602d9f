"""Where prototypes start: at clusters of their stratum, or at random points."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from skprotolm._config import FitConfig
from skprotolm._network.mixture import MixtureLayer
from skprotolm._network.proto_lm import InverseDistanceLayer
from skprotolm._network.prototypes import PrototypeLayer
from skprotolm._network.readouts import make_readout
from skprotolm._runtime import warn
from skprotolm._tasks.base import Task
from skprotolm._training.splits import FitData
from skprotolm.exceptions import FewerPrototypesWarning


def initialize_mixture(data: FitData, config: FitConfig) -> PrototypeLayer:
    """Start prototypes at the clusters of each stratum, shrunk towards its mean."""
    targets, counts = data.targets, config.prototype_counts
    rows, strata = data.task.memberships(targets)
    centers = cluster_centers(
        data.vectors.numpy()[rows], strata, targets.weights[rows], counts, data.seed
    )
    vectors = shrink_to_means(centers, counts, config.spread)
    task = data.task
    readout = make_readout(**task.readout_options, sharpness=config.sharpness)
    layer = MixtureLayer(
        torch.from_numpy(vectors),
        _initial_values(data, counts),
        readout,
        sharpness=config.sharpness,
    )
    values, weights = map(torch.from_numpy, (targets.values, targets.weights))
    with torch.no_grad():
        readout.initialize(values, weights, partial(layer.outputs_of, data.vectors))
    return layer


def initialize_published(data: FitData, config: FitConfig) -> PrototypeLayer:
    """Start prototypes at points of a standard normal distribution, as published."""
    counts = config.prototype_counts
    shape = (sum(counts), data.vectors.shape[1])
    vectors = torch.randn(*shape, dtype=torch.float32).to(data.vectors)
    values = _initial_values(data, counts)
    return InverseDistanceLayer(vectors, values, n_classes=len(data.task.strata))


def warn_of_few_texts(wanted: list[int], n_candidates: list[int], task: Task) -> None:
    """Warn where fewer distinct texts exist than prototypes were asked for."""
    strata = task.strata
    short = [i for i in range(len(strata)) if n_candidates[i] < wanted[i]]
    if short:
        names = ", ".join(f"{strata[i]!r} ({n_candidates[i]})" for i in short[:5])
        nouns = f"{task.unit_noun}s"
        warn(
            f"{len(short)} of {len(strata)} {task.strata_noun} have fewer distinct "
            f"{nouns} of their own than n_prototypes and get as many prototypes as "
            f"{nouns}: {names}"
            f"{', …' if len(short) > 5 else ''}.",
            FewerPrototypesWarning,
        )


INITIALIZERS = {"mixture": initialize_mixture, "proto-lm": initialize_published}


def _initial_values(data: FitData, counts: Sequence[int]) -> Tensor:
    """Return the values (M, ...) of prototypes, stratum after stratum."""
    values = data.task.stratum_values(data.targets)
    return torch.from_numpy(np.repeat(values, counts, axis=0))


def cluster_centers(
    vectors: np.ndarray,
    strata: np.ndarray,
    weights: np.ndarray,
    counts: Sequence[int],
    seed: int,
) -> np.ndarray:
    """Return the centers of each stratum's k-means clusters, stratum after stratum.

    Parameters
    ----------
    vectors : ndarray of shape (n, H)
        Text vectors; they are clustered by direction.
    strata, weights : ndarray of shape (n,)
    counts : sequence of int
        Clusters per stratum.
    seed : int

    Returns
    -------
    ndarray of shape (sum of counts, H)
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(lengths, np.finfo(vectors.dtype).tiny)
    # More than two threads add in the order in which they finish, so that the last bits
    # would differ between fits. The limit is set once, since setting it searches all
    # loaded libraries: per stratum, it took as long as k-means itself.
    with warnings.catch_warnings(), threadpool_limits(1, user_api="openmp"):
        # Distinct texts can have one vector; centers then coincide. `fit` warns if they
        # still do after training.
        warnings.simplefilter("ignore", ConvergenceWarning)
        centers = [
            _centers(unit[strata == stratum], weights[strata == stratum], count, seed)
            for stratum, count in enumerate(counts)
        ]
    return np.concatenate(centers).astype(vectors.dtype)


def _centers(
    unit: np.ndarray, weights: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """Return the centers of one stratum's k-means clusters, (count, H)."""
    if count == 0:  # a stratum without texts of its own
        return unit[:0]
    if count == 1:  # the result of k-means, without its overhead
        return np.average(unit, axis=0, weights=weights, keepdims=True)
    kmeans = KMeans(count, n_init=1, random_state=seed)
    return kmeans.fit(unit, sample_weight=weights).cluster_centers_


def shrink_to_means(
    centers: np.ndarray, counts: Sequence[int], spread: float
) -> np.ndarray:
    """Move centers towards the mean of their stratum, to a fraction of the distance.

    Where the frozen encoder does not separate the labels, clusters of a class are
    topics, and the nearest center is not informative about the class: training has to
    learn another direction for each. Starting near their mean, all prototypes of a
    class first learn the same direction, as a linear head does. Where the encoder
    separates the labels, as with 77 intents, unshrunk clusters are better.

    Parameters
    ----------
    centers : ndarray of shape (M, H)
        Stratum after stratum.
    counts : sequence of int
        Centers per stratum.
    spread : float
        The fraction of the distance that is kept.
    """
    strata = np.repeat(np.arange(len(counts)), counts)
    means = np.zeros((len(counts), centers.shape[1]), dtype=centers.dtype)
    for c in np.unique(strata):
        means[c] = centers[strata == c].mean(axis=0)
    return means[strata] + spread * (centers - means[strata])
