"""Vectors to places in the plane, for maps that people look at."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

_PERPLEXITY = 30.0  # of t-SNE: about how many neighbours count
_FEWEST = 5  # vectors that t-SNE takes


def places(vectors: np.ndarray) -> np.ndarray:
    """Return a place in the plane for each of n vectors (n, H), (n, 2).

    By t-SNE from the principal components (van der Maaten and Hinton 2008), so the
    same vectors get the same places.
    """
    # In full: a randomized solver would draw from NumPy's global generator.
    pca = PCA(min(2, *vectors.shape), svd_solver="full")
    with np.errstate(under="ignore", invalid="ignore"):  # of equal vectors 0/0
        components = pca.set_output(transform="default").fit_transform(vectors)
    components = np.pad(components, ((0, 0), (0, 2 - components.shape[1])))
    scale = components[:, 0].std()
    if len(vectors) < _FEWEST or scale < 1e-9:  # too few, or all the same
        return components
    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    start = (1e-4 * components / scale).astype(np.float32)
    tsne = TSNE(perplexity=perplexity, init=start, random_state=0)
    with np.errstate(under="ignore"):
        found = tsne.set_output(transform="default").fit_transform(
            vectors.astype(np.float32)
        )
        # Turned so that the map is wider than high, as screens are.
        turned = PCA(2, svd_solver="full").set_output(transform="default")
        return turned.fit_transform(found)
