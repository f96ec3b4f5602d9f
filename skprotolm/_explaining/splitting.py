"""Similarities split over tokens, computed on demand."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skprotolm._explaining.attribution import alignment, token_similarities
from skprotolm._fitted import FittedModel
from skprotolm._records.parts import NoSplitError
from skprotolm._records.words import Text
from skprotolm._runtime import isolated_torch

_CACHED = 64  # texts whose token vectors are kept


class _ContentTokens(NamedTuple):
    """The T content tokens of one text."""

    attention: Tensor  # (T,)
    h: Tensor  # (T, H)
    segments: np.ndarray  # (T,)
    offsets: np.ndarray  # (T, 2)
    unread: np.ndarray  # (T,)


class TokenSplits:
    """Splits similarities over tokens; a text is encoded once for several splits."""

    def __init__(self, state: FittedModel):
        self._state = state
        self._tokens = lru_cache(maxsize=_CACHED)(self._encode)

    @isolated_torch()
    def token_similarities(self, text: Text) -> np.ndarray:
        """Split the similarities to all prototypes over the tokens, (T, M)."""
        tokens, vectors = self._tokens(text), self._state.layer.vectors
        with torch.inference_mode():
            return token_similarities(tokens.attention, tokens.h, vectors).numpy()

    @isolated_torch()
    def alignment(self, text: Text, index: int) -> np.ndarray:
        """Split the similarity to one prototype over pairs of tokens, (T, U)."""
        one, other = self._tokens(text), self._tokens(self._prototype_text(index))
        with torch.inference_mode():
            return alignment(one.attention, one.h, other.attention, other.h).numpy()

    @isolated_torch()
    def prototype_tokens(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return segments, offsets and unread flags of a prototype's U tokens."""
        tokens = self._tokens(self._prototype_text(index))
        return tokens.segments, tokens.offsets, tokens.unread

    def _prototype_text(self, index: int) -> Text:
        quotes = self._state.quotes
        if not quotes.projected[index]:
            raise NoSplitError(
                f"The vector of prototype {index} is not that of its text (a fit with "
                f"projection=False, or a redacted text), so that its cosine has no "
                f"split over pairs of tokens."
            )
        return quotes.texts[index]

    def _encode(self, text: Text) -> _ContentTokens:
        texts: Any = [text]
        tokenized = self._state.tokenize(texts, with_offsets=True, quiet=True)
        assert tokenized.segments is not None
        assert tokenized.offsets is not None
        encoded = next(self._state.encode(tokenized))
        content_mask = tokenized.own[0]
        positions = torch.from_numpy(np.flatnonzero(content_mask))
        return _ContentTokens(
            encoded.attention[0].cpu()[positions],
            encoded.h[0].cpu()[positions],
            tokenized.segments[0][content_mask],
            tokenized.offsets[0][content_mask],
            tokenized.unread[0][content_mask],
        )
