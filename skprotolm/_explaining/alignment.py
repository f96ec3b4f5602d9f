"""Cosines to prototypes, split over tokens, and the vectors that split them."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skprotolm._explaining.attribution import sum_by_token
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
        encode = partial(_token_parts, model)
        self._parts = lru_cache(maxsize=_CACHED)(encode)

    @isolated_torch()
    def token_similarities(self, text: Text) -> np.ndarray:
        """Split the similarities to all prototypes over the tokens, (T, M)."""
        return (self._parts(text) @ self._model.layer.positions.T).numpy()

    @isolated_torch()
    def token_parts(self, text: Text) -> np.ndarray:
        """Return the parts of the unit text vector that belong to tokens, (T, H)."""
        return self._parts(text).numpy()

    def prototype_parts(self, index: int) -> np.ndarray:
        """Return the same of a prototype's text, (U, H)."""
        return self.token_parts(self._prototype_text(index))

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


def _token_parts(model: FittedModel, text: Text) -> Tensor:
    """Return α_t·A h_t/‖A s‖ of the content tokens of a text, (T, H) float64."""
    texts: Any = [text]
    tokenized = model.tokenize(texts, with_offsets=True, quiet=True)
    encoded = next(model.encode(tokenized))
    weighted = (
        attention.cpu().double()[..., None] * h.cpu().double()
        for attention, h in zip(encoded.attention, encoded.token_vectors(), strict=True)
    )
    parts = sum_by_token(tokenized, encoded.windows, map(model.layer.mapped, weighted))
    vectors = torch.from_numpy(parts[0])
    return vectors / vectors.sum(dim=0).norm()
