"""Exact sums over tokens, from the one derivative that a layer gives.

Letters: B texts, T tokens, H hidden size, M prototypes. Everything is float64 on the
CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from skprotolm._network.network import Encoded


def token_scores(encoded: Encoded, direction: Tensor) -> Tensor:
    """Split what is explained over tokens: α_t·(h_t·direction), (B, T).

    With the base value of the `Attribution` they sum to it, since Σ_t α_t·h_t = s.
    """
    weighted = encoded.attention.cpu().double()[..., None] * encoded.h.cpu().double()
    return torch.einsum("bth,bh->bt", weighted, direction)


def token_similarities(attention: Tensor, h: Tensor, prototypes: Tensor) -> Tensor:
    """Split cos(s, p_j) over the tokens of one text: α_t·(h_t·p̂_j)/‖s‖, (T, M)."""
    weighted = attention.double()[:, None] * h.double()  # (T, H)
    length = weighted.sum(dim=0).norm()
    return weighted @ F.normalize(prototypes.double(), dim=1).T / length
