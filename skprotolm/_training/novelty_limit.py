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
_SAMPLE = 10_000  # texts, or fewer
_CHUNK = 1024  # texts that are compared at once


def find_novelty_limit(
    layer: PrototypeLayer, data: FitData, vectors: Tensor, quoted: np.ndarray
) -> float | None:
    """Return the novelty that few of the training texts exceed.

    The novelty of a text that is a prototype is that without this prototype, since new
    texts have none of their own.

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
    ids = data.candidates.text_ids
    rows = np.random.RandomState(data.seed).permutation(len(vectors))[:_SAMPLE]
    itself = torch.from_numpy(ids[rows, None] == ids[quoted])
    return limit_of(layer.exact(), vectors[rows], itself, len(vectors))


def limit_of(
    exact: PrototypeLayer, vectors: Tensor, itself: Tensor, n_texts: int
) -> float | None:
    """Return the novelty that few of the training texts exceed, from a sample of them.

    Parameters
    ----------
    exact : PrototypeLayer
        In float64.
    vectors : Tensor of shape (B, H)
        Of the sample.
    itself : Tensor of shape (B, M), bool
        Whether the prototype quotes the text itself.
    n_texts : int
        Training texts.
    """
    chunks = zip(vectors.split(_CHUNK), itself.split(_CHUNK), strict=True)
    novelty = torch.cat([exact.novelty(s.cpu().double(), i) for s, i in chunks])
    scores = np.sort(novelty[novelty.isfinite()].numpy())
    if len(scores) < _FEWEST:
        return None
    rate = _RATE * min(1.0, n_texts / _MANY)
    return float(scores[min(conformal_rank(len(scores), rate), len(scores)) - 1])


def conformal_rank(n: int, rate: float) -> int:
    """Return k = ⌈(n + 1)(1 − rate)⌉, at least 1 and at most n + 1.

    The k-th smallest of n scores is exceeded by one more exchangeable score with a
    probability of at most `rate`, if k ≤ n (split conformal prediction; Vovk, Gammerman
    and Shafer 2005).
    """
    # The product may be a rounding error above an integer.
    return max(1, math.ceil((n + 1) * (1 - rate) - 1e-9))
