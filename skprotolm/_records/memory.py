"""What a fitted model keeps of its training texts besides the quoted ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# 1.5 MB for vectors of 384 numbers. With 200, new classes take a few tenths of a point
# more from the old ones (Banking77).
_SIZE = 2000


@dataclass(frozen=True, eq=False)
class Memory:
    """Vectors of a sample of the training texts, without the texts."""

    vectors: np.ndarray  # (m, H) float16, of length 1
    weights: np.ndarray  # (m,), whose sum is the number of training texts
    quoted: np.ndarray  # (m,) ids of the prototypes that quote the same text, or -1
    n_rows: int  # of X in `fit`, and in each `partial_fit` since

    @classmethod
    def sample(
        cls,
        vectors: np.ndarray,
        weights: np.ndarray,
        quoted: np.ndarray,
        n_rows: int,
        seed: int,
    ) -> Memory:
        """Keep at most 2,000 vectors, which stand for all."""
        rows = np.sort(np.random.RandomState(seed).permutation(len(weights))[:_SIZE])
        kept = vectors[rows].astype(np.float64)
        lengths = np.linalg.norm(kept, axis=1, keepdims=True)
        kept /= np.maximum(lengths, np.finfo(np.float64).tiny)
        factor = weights.sum() / weights[rows].sum()
        return cls(
            kept.astype(np.float16), weights[rows] * factor, quoted[rows], n_rows
        )
