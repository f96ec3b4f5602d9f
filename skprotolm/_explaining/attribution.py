"""The exact sums behind a prediction: over prototypes, tokens, and pairs of tokens.

Letters: B texts, T tokens, H hidden size, C classes, M prototypes. Everything here
is float64 on the CPU.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from skprotolm._network.network import Encoded
from skprotolm._network.prototypes import (
    InverseDistanceLayer,
    MixtureLayer,
    PrototypeLayer,
)


class Account(NamedTuple):
    """Where the probabilities of B texts come from."""

    log_probabilities: Tensor  # (B, C)
    log_odds: Tensor  # (B,): of the target
    similarities: Tensor  # (B, M)
    contributions: Tensor  # (B, M): shares, or w_cj·a_j of the target class
    base_values: Tensor  # (B,): of the log-odds, or of the target's score
    scores: Tensor  # (B,): the target's z
    pull: Tensor  # (B, H): what α_t h_t is multiplied with to give token scores


def account(layer: PrototypeLayer, s: Tensor, targets: Tensor | None = None) -> Account:
    """Account for text vectors (B, H), float64 on the CPU.

    `targets` (B,) are classes, by default those predicted.
    """
    if isinstance(layer, MixtureLayer):
        return _account_mixture(layer, s, targets)
    assert isinstance(layer, InverseDistanceLayer)
    return _account_distances(layer, s, targets)


def _account_mixture(layer: MixtureLayer, s: Tensor, targets: Tensor | None) -> Account:
    rows = torch.arange(len(s))
    owner = layer.owner.cpu()
    cosines = layer.similarities(s)
    log_terms = layer.log_terms(cosines)
    log_sums, scores = layer.evidence(log_terms)
    log_p = torch.log_softmax(scores, dim=1)
    k = log_p.argmax(dim=1) if targets is None else targets
    log_inside = log_terms - log_sums[:, owner]  # log r, a share of its class's sum
    inside = log_inside.exp()

    rivals = scores.scatter(1, k[:, None], -torch.inf)
    q = torch.softmax(rivals, dim=1)  # (B, C), 0 at the target
    odds = log_odds(scores, k)

    scale = layer.concentration(s) / layer.sharpness
    divergence = (inside * (log_inside - layer.log_priors(s))).nan_to_num()
    per_class = torch.zeros_like(scores).index_add_(1, owner, divergence)  # KL_c
    constant = layer.bias.to(s) - scale * per_class  # b_c − (κ/λ)·KL_c
    base = constant[rows, k] - (q * constant).sum(dim=1) + torch.xlogy(q, q).sum(dim=1)

    signs = torch.where(owner[None, :] == k[:, None], 1.0, -q[:, owner])
    pull = (signs * inside) @ F.normalize(layer.vectors.to(s), dim=1)  # (B, H)
    pull = pull * (layer.concentration(s) / s.norm(dim=1).clamp_min(1e-300))[:, None]
    shares = (log_p[:, owner] + log_inside).exp()
    return Account(log_p, odds, cosines, shares, base, scores[rows, k], pull)


def _account_distances(
    layer: InverseDistanceLayer, s: Tensor, targets: Tensor | None
) -> Account:
    with torch.inference_mode(False), torch.enable_grad():
        point = s.clone().requires_grad_()
        similarities, _, scores = layer(point)
        log_p = torch.log_softmax(scores, dim=1)
        k = log_p.argmax(dim=1) if targets is None else targets
        odds = log_odds(scores, k)
        (pull,) = torch.autograd.grad(odds.sum(), point)  # linear at the text
    similarities = similarities.detach()
    contributions = layer.weights.to(s)[k] * similarities
    return Account(
        log_p.detach(),
        odds.detach(),
        similarities,
        contributions,
        base_values=layer.bias.to(s)[k],
        scores=scores.detach()[torch.arange(len(s)), k],
        pull=pull,
    )


def log_odds(scores: Tensor, k: Tensor) -> Tensor:
    """Return log p_k − log(1 − p_k) from scores (B, C)."""
    rivals = scores.scatter(1, k[:, None], -torch.inf)
    return scores.gather(1, k[:, None])[:, 0] - torch.logsumexp(rivals, dim=1)


def token_scores(encoded: Encoded, pull: Tensor) -> Tensor:
    """Split the log-odds over tokens: α_t·(h_t·pull), (B, T).

    With r_j a share of the target class's sum, r′_j one of the others', this is
    κ α_t h_t·(Σ_j r_j p̂_j − Σ_j r′_j p̂_j)/‖s‖. What is left of the log-odds is the
    base, b_k − (κ/λ)·KL_k − Σ_{c≠k} q_c (b_c − (κ/λ)·KL_c − log q_c).
    """
    weighted = encoded.attention.cpu().double()[..., None] * encoded.h.cpu().double()
    return torch.einsum("bth,bh->bt", weighted, pull)


def token_similarities(attention: Tensor, h: Tensor, prototypes: Tensor) -> Tensor:
    """Split cos(s, p_j) over the tokens of one text: α_t·(h_t·p̂_j)/‖s‖, (T, M)."""
    weighted = attention.double()[:, None] * h.double()  # (T, H)
    length = weighted.sum(dim=0).norm()
    return weighted @ F.normalize(prototypes.double(), dim=1).T / length


def alignment(
    attention: Tensor, h: Tensor, other_attention: Tensor, other_h: Tensor
) -> Tensor:
    """Split the cosine of two texts over pairs of their tokens, (T, U).

    α_t α_u (h_t·h_u)/(‖s‖‖s_j‖); it sums to cos(s, s_j).
    """
    mine = attention.double()[:, None] * h.double()
    theirs = other_attention.double()[:, None] * other_h.double()
    return mine @ theirs.T / (mine.sum(dim=0).norm() * theirs.sum(dim=0).norm())
