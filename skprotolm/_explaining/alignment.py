"""Cosines to prototypes, split over tokens and over pairs of tokens, on demand."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skprotolm._fitted import FittedModel
from skprotolm._records.parts import NoSplitError
from skprotolm._records.words import Text
from skprotolm._runtime import isolated_torch

_CACHED = 64  # texts whose token vectors are kept


class TokenSplits:
    """Splits similarities over tokens; a text is encoded once for several splits."""

    def __init__(self, model: FittedModel):
        self._model = model
        # Not a method of this object, which it would keep in a reference cycle.
        encode = partial(_weighted_tokens, model)
        self._weighted = lru_cache(maxsize=_CACHED)(encode)

    @isolated_torch()
    def token_similarities(self, text: Text) -> np.ndarray:
        """Split the similarities to all prototypes over the tokens, (T, M)."""
        positions = self._model.layer.positions
        return token_similarities(self._weighted(text), positions).numpy()

    @isolated_torch()
    def alignment(self, text: Text, index: int) -> np.ndarray:
        """Split the similarity to one prototype over pairs of tokens, (T, U)."""
        other = self._prototype_text(index)
        return align(self._weighted(text), self._weighted(other)).numpy()

    def prototype_tokens(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return segments, offsets and unread flags of a prototype's U tokens."""
        self._prototype_text(index)
        quoted = self._model.quoted
        assert quoted.segments is not None
        assert quoted.offsets is not None
        content = quoted.content_mask[index]
        return (
            quoted.segments[index][content],
            quoted.offsets[index][content],
            quoted.unread[index][content],
        )

    def _prototype_text(self, index: int) -> Text:
        quotes = self._model.quotes
        if not quotes.projected[index]:
            raise NoSplitError(
                f"The vector of prototype {index} is not that of its text (a fit with "
                f"projection=False, or a redacted text), so that its cosine has no "
                f"split over pairs of tokens."
            )
        return quotes.texts[index]


def _weighted_tokens(model: FittedModel, text: Text) -> Tensor:
    """Return α_t·A h_t of the content tokens of a text, (T, H) float64."""
    texts: Any = [text]
    tokenized = model.tokenize(texts, with_offsets=True, quiet=True)
    encoded = next(model.encode(tokenized))
    columns = torch.from_numpy(np.flatnonzero(tokenized.content_mask[0]))
    attention, h = encoded.attention[0].cpu()[columns], encoded.h[0].cpu()[columns]
    return model.layer.mapped(attention.double()[:, None] * h.double())


def token_similarities(weighted: Tensor, positions: Tensor) -> Tensor:
    """Split cos(A s, p_j) over the tokens of a text: α_t·(A h_t·p̂_j)/‖A s‖, (T, M).

    Parameters
    ----------
    weighted : Tensor of shape (T, H)
        α_t·A h_t.
    positions : Tensor of shape (M, H)
        p̂_j.
    """
    return weighted @ positions.T / weighted.sum(dim=0).norm()


def align(weighted: Tensor, other: Tensor) -> Tensor:
    """Split the cosine of two texts over pairs of their tokens, (T, U).

    α_t α_u (A h_t·A h_u)/(‖A s‖‖A s_j‖), from α_t·A h_t (T, H) and α_u·A h_u (U, H);
    it sums to their cosine.
    """
    lengths = weighted.sum(dim=0).norm() * other.sum(dim=0).norm()
    return weighted @ other.T / lengths
