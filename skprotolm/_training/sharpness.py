"""How many texts share a prediction: the sharpness λ once prototypes are texts."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from skprotolm._data.targets import Targets
from skprotolm._network.mixture import MixtureLayer
from skprotolm._training.recalibration import Sample

_LOWEST, _HIGHEST = 30.0, 3000.0
_TEXTS = 500  # that are compared, or fewer,
_NUMBERS = 2**24  # where there are so many prototypes that this many cosines
_STEPS = 20  # of the bisection; the error is a factor of 1.000004


def choose_sharpness(layer: MixtureLayer, sample: Sample, targets: Targets) -> float:
    """Return the λ under which the shares of a text have a given perplexity.

    How far the cosines of a class differ depends on the task and on how long it was
    trained, so that no constant suits all. The perplexity of the shares r_j inside a
    class is exp(−Σ_j r_j log r_j), the number of equal shares that they amount to; the
    weighted median is over training texts, of which none is compared with itself (as
    the bandwidths of t-SNE are chosen: van der Maaten and Hinton 2008).

    Parameters
    ----------
    layer : MixtureLayer
    sample : Sample
        Of which the first texts are compared.
    targets : Targets
        Of the training texts.

    Returns
    -------
    float
        From 30 to 3,000.
    """
    some = slice(min(_TEXTS, max(1, _NUMBERS // len(layer.vectors))))
    rows = sample.rows[some]
    cosines, itself = sample.compare(layer.exact(), some)
    groups = layer.readout.groups(torch.from_numpy(targets.values[rows]))
    is_mate = (groups[:, None] == layer.groups.cpu()) & ~itself
    is_usable = is_mate.any(dim=1)
    if not is_usable.any():
        return _LOWEST
    cosines = cosines.masked_fill(~is_mate, -torch.inf)[is_usable]
    weights = targets.weights[rows][is_usable.numpy()]
    wanted = layer.readout.perplexity
    low, high = math.log(_LOWEST), math.log(_HIGHEST)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        perplexities = _perplexities(math.exp(middle) * cosines)
        if weighted_median(perplexities, weights) > wanted:
            low = middle
        else:
            high = middle
    return math.exp(low)


def _perplexities(logits: Tensor) -> np.ndarray:
    """Return exp(entropy) of softmax(logits), for rows (B, M), (B,)."""
    return torch.special.entr(logits.softmax(dim=1)).sum(dim=1).exp().numpy()


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the lower weighted median."""
    order = values.argsort()
    shares = weights[order].cumsum() / weights.sum()
    # The sum may be a rounding error below a half.
    return float(values[order][np.searchsorted(shares, 0.5 - 1e-9)])
