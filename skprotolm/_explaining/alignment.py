"""Cosines to prototypes, split over tokens, and the vectors that split them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skprotolm._data.texts import Text
from skprotolm._explaining.attribution import sum_by_token
from skprotolm._fitted import FittedModel
from skprotolm._network.prototypes import PrototypeLayer
from skprotolm._records.parts import NoSplitError
from skprotolm._runtime import isolated_torch


class TokenSplits:
    """Splits similarities over tokens; a text is encoded once for several splits.

    Parameters
    ----------
    model : FittedModel
    max_numbers : int, default=2**25
        Numbers of token parts that are kept, by default 256 MB; more of one long text.
    """

    def __init__(self, model: FittedModel, max_numbers: int = 2**25):
        self._model = model
        self._max_numbers = max_numbers
        # What prototypes are read with, so that their tokens sum to their vectors.
        self._reader = replace(model, network=model.network.in_torch(), bf16=False)
        self._explained: dict[Text, Tensor] = {}
        self._quoted: dict[Text, Tensor] = {}

    @isolated_torch()
    def token_similarities(self, text: Text) -> np.ndarray:
        """Split the similarities to all prototypes over the tokens, (T, M)."""
        parts = self._parts(self._model, text, self._explained)
        return (parts @ self._model.layer.positions.T).numpy()

    @isolated_torch()
    def token_parts(self, text: Text) -> np.ndarray:
        """Return the parts of the unit text vector that belong to tokens, (T, H)."""
        return self._parts(self._model, text, self._explained).numpy()

    @isolated_torch()
    def prototype_parts(self, index: int) -> np.ndarray:
        """Return the same of a prototype's text, (U, H)."""
        # Apart, so that many quotes do not replace a long explained text.
        text = self._prototype_text(index)
        return self._parts(self._reader, text, self._quoted).numpy()

    def _parts(
        self, model: FittedModel, text: Text, kept: dict[Text, Tensor]
    ) -> Tensor:
        """Return the parts of a text, and keep those that were used last."""
        parts = kept.pop(text, None)
        if parts is None:
            parts = _token_parts(model, self._model.layer, text)
        kept[text] = parts
        while len(kept) > 1 and _n_numbers(kept) > self._max_numbers:
            kept.pop(next(iter(kept)), None)
        return parts

    def prototype_tokens(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return segments, offsets and unread flags of a prototype's U tokens."""
        self._prototype_text(index)
        tokens = self._model.quoted[index]
        content = tokens.content_mask
        return tokens.segments[content], tokens.offsets[content], tokens.unread[content]

    def _prototype_text(self, index: int) -> Text:
        quotes = self._model.quotes
        if not quotes.projected[index]:
            raise NoSplitError(
                f"The vector of prototype {index} is not that of its text (a fit with "
                f"projection=False, or a redacted text), so that its cosine has no "
                f"split over pairs of tokens."
            )
        return quotes.texts[index]


def _n_numbers(kept: dict[Text, Tensor]) -> int:
    return sum(parts.numel() for parts in kept.values())


def _token_parts(model: FittedModel, layer: PrototypeLayer, text: Text) -> Tensor:
    """Return α_t·A h_t/‖A s‖ of the content tokens of a text, (T, H) float64."""
    texts: Any = [text]
    tokenized = model.tokenize(texts, with_offsets=True, quiet=True)
    encoded = next(model.encode(tokenized))
    weighted = (
        attention.cpu().double()[..., None] * h.cpu().double()
        for attention, h in zip(encoded.attention, encoded.token_vectors(), strict=True)
    )
    parts = sum_by_token(tokenized, encoded.windows, map(layer.mapped, weighted))
    vectors = torch.from_numpy(parts[0])
    return vectors.div_(vectors.sum(dim=0).norm())
