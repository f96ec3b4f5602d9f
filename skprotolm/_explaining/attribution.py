"""Exact sums over tokens, from the one derivative that a layer gives.

Letters: B texts, T tokens, H hidden size, W windows. Everything is float64 on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from skprotolm._network.network import Encoded
from skprotolm._network.tokenized import TokenizedTexts
from skprotolm._network.windows import WindowIndex


def token_scores(encoded: Encoded, direction: Tensor) -> Iterator[Tensor]:
    """Split what is explained over tokens: α_t·(h_t·direction), (W, T) of each part.

    With the base value of the `Attribution` they sum to it, since Σ_t α_t·h_t = s.
    `direction` is that of each text, (B, H).
    """
    for texts, attention, h in zip(
        encoded.texts, encoded.attention, encoded.token_vectors(), strict=True
    ):
        weighted = attention.cpu().double()[..., None] * h.cpu().double()
        yield torch.einsum("bth,bh->bt", weighted, direction[texts])


def sum_by_token(
    tokenized: TokenizedTexts,
    windows: Iterable[WindowIndex],
    values: Iterable[Tensor],
) -> dict[int, np.ndarray]:
    """Sum the values of tokens over the windows that have them.

    Parameters
    ----------
    tokenized : TokenizedTexts
    windows : iterable of WindowIndex
    values : iterable of Tensor
        The values (W, T, ...) of each of `windows`.

    Returns
    -------
    dict of int to ndarray of shape (T, ...), float64
        Row of each text to the sums of its content tokens.
    """
    sums: dict[int, np.ndarray] = {}
    slots: dict[int, np.ndarray] = {}  # positions of tokens among the content tokens
    for part, of_part in zip(windows, values, strict=True):
        array = of_part.cpu().double().numpy()
        for row, number, of_window in zip(
            part.rows.tolist(), part.numbers.tolist(), array, strict=True
        ):
            tokens = tokenized[row]
            mask = tokens.content_mask
            if row not in sums:
                sums[row] = np.zeros((np.count_nonzero(mask), *array.shape[2:]))
                slots[row] = np.cumsum(mask) - 1
            positions = tokens.positions(number)
            is_content = mask[positions]
            own = of_window[: len(positions)][is_content]
            sums[row][slots[row][positions[is_content]]] += own
    return sums
