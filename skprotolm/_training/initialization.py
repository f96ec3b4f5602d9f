"""Where prototypes are placed: cluster centres of their class, or random points."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits
from torch import Tensor

from skprotolm._training.projection import N_NEIGHBOURS

# Of n_prototypes="auto": in all; the fewest and most a class; of few texts, the fewest
# of all, and how many texts each is to have.
_IN_ALL, _FEWEST, MOST_PROTOTYPES = 16, 3, 10
_FEWEST_OF_ALL, _TEXTS_EACH = 2, 8
_SAMPLE = 5000  # texts that clearness looks at
# Clusters start at least so far from their class's mean, as a share of the way.
_LEAST_SPREAD = 0.1


def kmeans_start(
    vectors: np.ndarray,
    codes: np.ndarray,
    weights: np.ndarray,
    counts: list[int],
    seed: int,
) -> np.ndarray:
    """Return the centres of each class's k-means clusters, class after class.

    Parameters
    ----------
    vectors : ndarray of shape (n, H)
        Text vectors; they are clustered by direction.
    codes, weights : ndarray of shape (n,)
    counts : list of int
        Prototypes a class.
    seed : int

    Returns
    -------
    ndarray of shape (sum of counts, H)
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(lengths, np.finfo(vectors.dtype).tiny)
    # More than two threads add up in the order in which they finish, so that the last
    # bits would differ from fit to fit. The limit is set once, since setting it
    # searches all loaded libraries: per class, it took as long as k-means itself.
    with warnings.catch_warnings(), threadpool_limits(1, user_api="openmp"):
        # Distinct texts can have one vector; the centers then coincide, which the
        # warning about prototypes reports if it lasts.
        warnings.simplefilter("ignore", ConvergenceWarning)
        centres = [
            _class_centers(unit[codes == code], weights[codes == code], count, seed)
            for code, count in enumerate(counts)
        ]
    return np.concatenate(centres).astype(vectors.dtype)


def _class_centers(
    unit: np.ndarray, weights: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """Return the centers of one class's k-means clusters, (count, H)."""
    if count == 1:  # what k-means finds, without its overhead
        return np.average(unit, axis=0, weights=weights, keepdims=True)
    kmeans = KMeans(count, n_init=1, random_state=seed)
    return kmeans.fit(unit, sample_weight=weights).cluster_centers_


def gathered(centres: np.ndarray, counts: list[int], clear: float) -> np.ndarray:
    """Move each class's centres towards their mean, as far as classes are not clear.

    Where the pretrained encoder does not tell the classes, clusters of a class are
    subjects, and which of two subjects' centres is nearer says nothing of the class:
    training has another direction to learn for each of them. From near their mean, all
    prototypes of a class learn the same one first, as a linear head does. Where the
    encoder tells the classes, as 77 intents, clusters as they are do better.

    Parameters
    ----------
    centres : ndarray of shape (M, H)
        Class after class.
    counts : list of int
        Prototypes a class.
    clear : float
        Of the classes, see `clearness`.
    """
    spread = max(_LEAST_SPREAD, clear)
    owner = np.repeat(np.arange(len(counts)), counts)
    means = np.stack(
        [centres[owner == code].mean(axis=0) for code in range(len(counts))]
    )
    return means[owner] + spread * (centres - means[owner])


def automatic_counts(most: list[int], codes: np.ndarray, clear: float) -> list[int]:
    """Choose how many prototypes a class begins with under ``n_prototypes="auto"``.

    About sixteen in all, so that a handful carries a prediction, but three a class, and
    of each eight texts of a class one: clusters of few texts are accidents. Two at
    least, or an explanation would have nothing to choose. Up to ten a class where the
    pretrained encoder tells the classes already: there, what is near in reading is near
    in label, and more prototypes are more accurate (77 intents); where it does not,
    each is one more noisy text (five grades of sentiment).

    Parameters
    ----------
    most : list of int
        At most so many, a class.
    codes : ndarray of shape (n,), int
        The classes of the distinct texts.
    clear : float
        Of the classes, see `clearness`.
    """
    usual = max(_FEWEST, _IN_ALL // len(most))
    clearly = round(MOST_PROTOTYPES * clear)
    n_texts = np.bincount(codes, minlength=len(most)).tolist()
    counts = [
        max(_FEWEST_OF_ALL, clearly, min(usual, n // _TEXTS_EACH)) for n in n_texts
    ]
    return [min(*pair) for pair in zip(counts, most, strict=True)]


def clearness(vectors: np.ndarray, codes: np.ndarray, seed: int) -> float:
    """Return how much of a text's class its nearest texts tell: 0 as chance, 1 all.

    As for a prototype's purity, those are the min(10, n_c − 1) nearest others, n_c the
    texts of its class; chance is the share of its class among the others.

    Parameters
    ----------
    vectors : ndarray of shape (n, P)
        The pretrained encoder's sentence vectors, of distinct texts.
    codes : ndarray of shape (n,), int
    seed : int
        Of the texts that are looked at, where there are many.
    """
    rows = np.random.RandomState(seed).permutation(len(codes))[:_SAMPLE]
    unit, codes = normalize(vectors[rows]), codes[rows]
    mates = np.bincount(codes)[codes] - 1
    if not mates.any():
        return 0.0
    k = min(N_NEIGHBOURS, int(mates.max()))
    near = NearestNeighbors(n_neighbors=k).fit(unit).kneighbors(return_distance=False)
    asked = np.arange(k) < mates[:, None]
    agree = (codes[near] == codes[:, None]) & asked
    used = mates > 0
    agreement = np.mean(agree[used].sum(axis=1) / asked[used].sum(axis=1))
    chance = np.mean(mates[used] / (len(rows) - 1))
    return float(max(0.0, (agreement - chance) / max(1 - chance, 1e-9)))


def normal_start(n_prototypes: int, like: Tensor) -> Tensor:
    """Return points from a standard normal distribution, as published."""
    return torch.randn(n_prototypes, like.shape[1], dtype=torch.float32).to(like)
