"""How many texts share a prediction: the sharpness λ once prototypes are texts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from skprotolm._network.prototypes import MixtureLayer
from skprotolm._training.recalibration import Comparison

_PERPLEXITY = 1.75  # texts that share the prediction of the median text
_LOWEST, _HIGHEST = 30.0, 3000.0
_TEXTS = 500  # that are compared
_STEPS = 20  # of the bisection; the error is a factor of 1.000004


def choose_sharpness(
    layer: MixtureLayer, compared: Comparison, values: Tensor
) -> float:
    """Return the λ under which the shares of a text have a perplexity of 1.75.

    How far the cosines of a class differ depends on the task and on how long it was
    trained, so that no constant suits all. The perplexity of the shares r_j inside a
    class is exp(−Σ_j r_j log r_j), the number of equal shares that they amount to; the
    median is over training texts, of which none is compared with itself (as the
    bandwidths of t-SNE are chosen: van der Maaten and Hinton 2008).

    Parameters
    ----------
    layer : MixtureLayer
    compared : Comparison
    values : Tensor of shape (n, ...)
        Of the training texts.

    Returns
    -------
    float
        From 30 to 3,000.
    """
    rows = torch.from_numpy(compared.rows[:_TEXTS])
    groups = layer.readout.groups(values[rows])
    own = (groups[:, None] == layer.groups.cpu()) & ~compared.itself[:_TEXTS]
    cosines = compared.cosines[:_TEXTS].masked_fill(~own, -torch.inf)
    cosines = cosines[own.any(dim=1)]
    if not len(cosines):
        return _LOWEST
    low, high = math.log(_LOWEST), math.log(_HIGHEST)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _median_perplexity(math.exp(middle) * cosines) > _PERPLEXITY:
            low = middle
        else:
            high = middle
    return math.exp(low)


def _median_perplexity(logits: Tensor) -> float:
    """Return the median of exp(entropy) of softmax(logits), over rows (B, M)."""
    shares = logits.softmax(dim=1)
    return float(torch.special.entr(shares).sum(dim=1).exp().median())
