"""The terms of the objective, as functions of squared distances and cosines.

Letters: B texts, M prototypes, C classes. `own` is a (B, M) mask: the prototype
belongs to the text's class. `weights` (B,) are the texts' weights, of mean 1 over
the training set; sums are divided by the batch's size, so that a batch of heavy
texts counts for more.
"""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor
from torch.nn import functional as F

# Cosines are multiplied by this before the softmax over a text's classmates.
_PRESERVATION_SCALE = 10.0
_DIVERSITY_COSINE = 0.5  # prototypes of one class may be as near as this for free


def cross_entropy(
    scores: Tensor, codes: Tensor, weights: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Return −Σ_b w_b·Σ_c t_bc·log p_c(b) / B.

    The targets t_b are ε/C for every class and 1 − ε more for the text's own (label
    smoothing: Szegedy et al. 2016).
    """
    losses = F.cross_entropy(scores, codes, reduction="none", label_smoothing=smoothing)
    return (weights * losses).mean()


def cohesion(d2: Tensor, own: Tensor, weights: Tensor) -> Tensor:
    """Pull each text towards its nearest own-class prototype: Σ_b w_b·min d² / B."""
    return (weights * d2.masked_fill(~own, torch.inf).amin(dim=1)).mean()


def coverage(d2: Tensor, own: Tensor) -> Tensor:
    """Pull each prototype towards its nearest own-class text of the batch.

    Prototypes without one in the batch are skipped; the mean is over the others.
    """
    nearest = d2.masked_fill(~own, torch.inf).amin(dim=0)  # (M,)
    return nearest[own.any(dim=0)].mean()


def separation(d2: Tensor, own: Tensor, weights: Tensor) -> Tensor:
    """Push each text from its nearest other-class prototype, out to d² = 1."""
    nearest = d2.masked_fill(own, torch.inf).amin(dim=1)
    return (weights * F.relu(1 - nearest)).mean()


def diversity(grouped: Tensor, counts: Tensor) -> Tensor:
    """Push prototypes of one class apart: mean over pairs of hinge(cos − 0.5).

    `grouped` (C, N, H) holds each class's unit vectors, and zeros behind its
    `counts` (C,).
    """
    excess = F.relu(grouped @ grouped.transpose(1, 2) - _DIVERSITY_COSINE)
    between = excess.sum() - excess.diagonal(dim1=1, dim2=2).sum()
    return between / (counts * (counts - 1)).sum().clamp(min=1)


def preservation(s: Tensor, pretrained: Tensor, codes: Tensor) -> Tensor:
    """Keep the order of nearness inside a class as the pretrained encoder has it.

    KL(pretrained ‖ learned) between softmax(10·cos) over a text's classmates in the
    batch, summed over texts with at least two of them and divided by B (relational
    distillation: Park et al. 2019; Tung and Mori 2019). Without it fine-tuning
    collapses a class to a point, and the nearest prototype says no more than the
    label does.
    """
    B = len(codes)
    mates = (codes[:, None] == codes[None, :]) & ~torch.eye(
        B, dtype=torch.bool, device=codes.device
    )
    used = mates.sum(dim=1) >= 2
    if not used.any():
        return s.new_zeros(())
    mates = mates[used]
    target = _log_neighbours(pretrained, used, mates)
    learned = _log_neighbours(s, used, mates)
    # exp(target) is 0 outside the mates, where both logarithms are replaced by 0.
    gap = (target - learned).masked_fill(~mates, 0)
    return (target.exp() * gap).sum() / B


def _log_neighbours(vectors: Tensor, used: Tensor, mates: Tensor) -> Tensor:
    unit = F.normalize(vectors, dim=-1)
    logits = _PRESERVATION_SCALE * unit[used] @ unit.T
    return torch.log_softmax(logits.masked_fill(~mates, -torch.inf), dim=1)


def published_cohesion(
    d2: Tensor, own: Tensor, weights: Tensor, n_nearest: float
) -> Tensor:
    """Return proto-lm's cohesion: mean of the K largest d² to own-class prototypes."""
    k = _n_extremes(own, n_nearest)
    return (weights * _mean_of_extremes(d2, own, k, largest=True)).mean()


def published_separation(
    d2: Tensor, own: Tensor, weights: Tensor, n_nearest: float
) -> Tensor:
    """Return proto-lm's separation: −mean of the K smallest d² to the others."""
    k = _n_extremes(own, n_nearest)
    return -(weights * _mean_of_extremes(d2, ~own, k, largest=False)).mean()


def _n_extremes(own: Tensor, n_nearest: float) -> Tensor:
    """Return K a text, (B,): a number, or a share of its class's prototypes."""
    counts = own.sum(dim=1)
    if isinstance(n_nearest, Integral):  # more than there are is all
        return torch.full_like(counts, min(int(n_nearest), own.shape[1]))
    return torch.ceil(float(n_nearest) * counts).long().clamp(min=1)


def _mean_of_extremes(d2: Tensor, chosen: Tensor, k: Tensor, largest: bool) -> Tensor:
    """Return the mean of each text's K extreme chosen distances, (B,)."""
    k = torch.minimum(k, chosen.sum(dim=1))
    fill = -torch.inf if largest else torch.inf
    ordered = d2.masked_fill(~chosen, fill).sort(dim=1, descending=largest).values
    kept = torch.arange(d2.shape[1], device=d2.device)[None, :] < k[:, None]
    return ordered.masked_fill(~kept, 0).sum(dim=1) / k
