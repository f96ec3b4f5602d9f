"""The terms of the objective, as functions of squared distances and cosines.

Letters: B texts, M prototypes, C classes. `own` is a (B, M) mask of the prototypes of
the text's class. `weights` (B,) are the texts' weights, of mean 1 over the training
set; sums are divided by the batch size, so that a batch of heavy texts counts more.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Cosines are multiplied by this before the softmax over texts of the same class.
_PRESERVATION_SCALE = 10.0
_MANY = 4096  # prototypes whose pairs are not compared in one matrix
_DIVERSITY_COSINE = 0.5  # no penalty for prototypes of one class below this cosine


def cross_entropy(
    scores: Tensor, codes: Tensor, weights: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Return −Σ_b w_b·Σ_c t_bc·log p_c(b) / B.

    The targets t_b are ε/C for every class and 1 − ε more for the text's own (label
    smoothing: Szegedy et al. 2016).
    """
    losses = F.cross_entropy(scores, codes, reduction="none", label_smoothing=smoothing)
    return (weights * losses).mean()


def binary_cross_entropy(
    outputs: Tensor, values: Tensor, weights: Tensor, sides: Tensor, smoothing: float
) -> Tensor:
    """Return −Σ_b w_b·Σ_l u_bl·(t_bl·log p_bl + (1 − t_bl)·log(1 − p_bl)) / B.

    `sides` are the weights u (B, L) of labels. Of the targets t_bl, 0 or 1, the label
    smoothing ε moves a share to the frequency of the label in the batch.
    """
    targets = values.to(outputs)
    if smoothing:
        targets = (1 - smoothing) * targets + smoothing * targets.mean(dim=0)
    losses = F.binary_cross_entropy_with_logits(
        outputs, targets, weight=sides, reduction="none"
    )
    return (weights * losses.sum(dim=1)).mean()


def squared_error(outputs: Tensor, values: Tensor, weights: Tensor) -> Tensor:
    """Return Σ_b w_b·(output_b − value_b)² / B."""
    return (weights * (outputs - values).square()).mean()


def cohesion(d2: Tensor, own: Tensor, weights: Tensor) -> Tensor:
    """Pull texts to the nearest prototype of their class: Σ_b w_b·min d² / B."""
    nearest = d2.masked_fill(~own, torch.inf).amin(dim=1)
    # A text without a prototype of its own has no term.
    return (weights * nearest.masked_fill(~own.any(dim=1), 0)).mean()


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


def diversity(unit: Tensor, groups: Tensor) -> Tensor:
    """Push prototypes of one group apart: mean over pairs of hinge(cos − 0.5).

    `unit` (M, H) holds unit vectors, `groups` (M,) the classes, for example.
    """
    if len(groups) > _MANY:  # group by group: of all pairs, few are of one group
        order, counts = groups.argsort(), groups.unique(return_counts=True)[1]
        parts = unit[order].split(counts.tolist())
        hinges = [F.relu(u @ u.T - _DIVERSITY_COSINE).triu(1) for u in parts]
        n_pairs = (counts * (counts - 1)).sum().clamp(min=1)
        return 2 * torch.stack([hinge.sum() for hinge in hinges]).sum() / n_pairs
    pairs = groups[:, None] == groups[None, :]
    pairs = pairs & ~torch.eye(len(groups), dtype=torch.bool, device=groups.device)
    excess = F.relu(unit @ unit.T - _DIVERSITY_COSINE)
    return (excess * pairs).sum() / pairs.sum().clamp(min=1)


def preservation(s: Tensor, pretrained: Tensor, mates: Tensor) -> Tensor:
    """Keep the order of nearness inside a class as the frozen encoder has it.

    KL(pretrained ‖ learned) between softmax(10·cos) over the other texts of the same
    value in the batch, the `mates` (B, B), summed over texts with at least two of them
    and divided by B (relational distillation: Park et al. 2019; Tung and Mori 2019).
    Without it fine-tuning collapses a class to a point, and the nearest prototype
    carries no more information than the label.
    """
    B = len(mates)
    s, pretrained = s[:B], pretrained[:B]
    mates = mates & ~torch.eye(B, dtype=torch.bool, device=mates.device)
    used = mates.sum(dim=1) >= 2
    if not used.any():
        return s.new_zeros(())
    mates = mates[used]
    target = _log_neighbors(pretrained, used, mates)
    learned = _log_neighbors(s, used, mates)
    # exp(target) is 0 outside the mates, where both logarithms are replaced by 0.
    gap = (target - learned).masked_fill(~mates, 0)
    return (target.exp() * gap).sum() / B


def _log_neighbors(vectors: Tensor, used: Tensor, mates: Tensor) -> Tensor:
    unit = F.normalize(vectors, dim=-1)
    logits = _PRESERVATION_SCALE * unit[used] @ unit.T
    return torch.log_softmax(logits.masked_fill(~mates, -torch.inf), dim=1)
