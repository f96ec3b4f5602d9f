"""Cosines to prototypes, split over tokens and over pairs of tokens, on demand."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from skprotolm._fitted import FittedModel
from skprotolm._records.explanations import NoSplitError, Splitter
from skprotolm._records.prototypes import Text
from skprotolm._runtime import isolated_torch

_CACHED = 64  # texts whose token vectors are kept


def make_splitter(model: FittedModel) -> Splitter:
    """Return what splits similarities on demand; it encodes each text once."""
    weighted = lru_cache(maxsize=_CACHED)(lambda text: _weighted_tokens(model, text))

    def require_text(j: int) -> Text:
        if not model.quotes.projected[j]:
            raise NoSplitError(
                f"Prototype {j} is not the vector of the text that it shows (a fit "
                f"with projection=False, or a redacted text), so its cosine has no "
                f"split over pairs of tokens."
            )
        return model.quotes.texts[j]

    @isolated_torch()
    def similarities(text: Text) -> np.ndarray:
        return token_similarities(weighted(text), model.layer.vectors).numpy()

    @isolated_torch()
    def pairs(text: Text, j: int) -> np.ndarray:
        return align(weighted(text), weighted(require_text(j))).numpy()

    def coordinates(j: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        require_text(j)
        quoted, content = model.quoted, model.quoted.content_mask[j]
        assert quoted.segments is not None
        assert quoted.offsets is not None
        arrays = (quoted.segments, quoted.offsets, quoted.unread)
        return tuple(array[j][content] for array in arrays)

    return Splitter(similarities, pairs, coordinates)


def _weighted_tokens(model: FittedModel, text: Text) -> Tensor:
    """Return α_t·h_t of the content tokens of a text, (T, H) float64."""
    texts: Any = [text]
    tokenized = model.tokenize(texts, with_offsets=True, quiet=True)
    encoded = next(model.encode(tokenized))
    columns = torch.from_numpy(np.flatnonzero(tokenized.content_mask[0]))
    attention, h = encoded.attention[0].cpu()[columns], encoded.h[0].cpu()[columns]
    return attention.double()[:, None] * h.double()


def token_similarities(weighted: Tensor, prototypes: Tensor) -> Tensor:
    """Split cos(s, p_j) over the tokens of a text: α_t·(h_t·p̂_j)/‖s‖, (T, M).

    Parameters
    ----------
    weighted : Tensor of shape (T, H)
        α_t·h_t.
    prototypes : Tensor of shape (M, H)
    """
    length = weighted.sum(dim=0).norm()
    return weighted @ F.normalize(prototypes.double(), dim=1).T / length


def align(weighted: Tensor, other: Tensor) -> Tensor:
    """Split the cosine of two texts over pairs of their tokens, (T, U).

    α_t α_u (h_t·h_u)/(‖s‖‖s_j‖), from α_t·h_t (T, H) and α_u·h_u (U, H); it sums to
    cos(s, s_j).
    """
    lengths = weighted.sum(dim=0).norm() * other.sum(dim=0).norm()
    return weighted @ other.T / lengths
