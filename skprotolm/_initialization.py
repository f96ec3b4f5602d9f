"""Where prototypes start: cluster centres of their class, or random points."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor


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
    centres = []
    for code, count in enumerate(counts):
        mine = codes == code
        kmeans = KMeans(count, n_init=1, random_state=seed)
        with warnings.catch_warnings():
            # Distinct texts can have one vector; the centres then coincide, which
            # the warning about prototypes reports if it lasts.
            warnings.simplefilter("ignore", ConvergenceWarning)
            kmeans.fit(unit[mine], sample_weight=weights[mine])
        centres.append(kmeans.cluster_centers_)
    return np.concatenate(centres).astype(vectors.dtype)


def normal_start(n_prototypes: int, like: Tensor) -> Tensor:
    """Return points from a standard normal distribution, as published."""
    return torch.randn(n_prototypes, like.shape[1], dtype=torch.float32).to(like)
