"""Exact sums over tokens, from the one derivative that a layer gives.

Letters: B texts, T tokens, H hidden size. Everything is float64 on the
CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skprotolm._network.network import Encoded


def token_scores(encoded: Encoded, direction: Tensor) -> Tensor:
    """Split what is explained over tokens: α_t·(h_t·direction), (B, T).

    With the base value of the `Attribution` they sum to it, since Σ_t α_t·h_t = s.
    """
    weighted = encoded.attention.cpu().double()[..., None] * encoded.h.cpu().double()
    return torch.einsum("bth,bh->bt", weighted, direction)
