"""Coordinates of vectors on a map."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

_PERPLEXITY = 30.0  # of t-SNE: the effective number of neighbors
_MIN_VECTORS = 5  # of t-SNE


def map_coordinates(vectors: np.ndarray) -> np.ndarray:
    """Map n vectors (n, H) to the plane, (n, 2).

    t-SNE (van der Maaten and Hinton 2008) starts from the principal components, so that
    it is deterministic. Few or equal vectors are mapped to their principal components.
    """
    # A randomized solver would draw from NumPy's global generator.
    pca = PCA(min(2, *vectors.shape), svd_solver="full")
    with np.errstate(under="ignore", invalid="ignore"):  # 0/0 for equal vectors
        components = pca.set_output(transform="default").fit_transform(vectors)
    components = np.pad(components, ((0, 0), (0, 2 - components.shape[1])))
    scale = components[:, 0].std()
    if len(vectors) < _MIN_VECTORS or scale < 1e-9:
        return components
    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    init = (1e-4 * components / scale).astype(np.float32)
    tsne = TSNE(perplexity=perplexity, init=init, random_state=0)
    with np.errstate(under="ignore"):
        coordinates = tsne.set_output(transform="default").fit_transform(
            vectors.astype(np.float32)
        )
        # Rotate the map so that it is wider than high, as screens are.
        rotation = PCA(2, svd_solver="full").set_output(transform="default")
        return rotation.fit_transform(coordinates)
