"""Cosines to prototypes, split over tokens and over pairs of tokens, on demand."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skprotolm._explaining.attribution import token_similarities
from skprotolm._fitted import FittedModel
from skprotolm._records.explanations import NoSplitError, Splitter
from skprotolm._records.prototypes import Text
from skprotolm._runtime import isolated_torch

_CACHED = 64  # texts whose token vectors are kept


class _Tokens(NamedTuple):
    """The content tokens of one text."""

    attention: Tensor  # (T,)
    h: Tensor  # (T, H)
    segments: np.ndarray  # (T,)
    offsets: np.ndarray  # (T, 2)
    unread: np.ndarray  # (T,)


def make_splitter(model: FittedModel) -> Splitter:
    """Return what splits similarities on demand; it encodes each text once."""
    tokens = lru_cache(maxsize=_CACHED)(lambda text: _encode_text(model, text))

    def quoted(j: int) -> Text:
        if not model.quotes.projected[j]:
            raise NoSplitError(
                f"Prototype {j} is not the vector of the text that it shows (a fit "
                f"with projection=False, or a redacted text), so its cosine has no "
                f"split over pairs of tokens."
            )
        return model.quotes.texts[j]

    @isolated_torch()
    def similarities(text: Text) -> np.ndarray:
        one = tokens(text)
        with torch.inference_mode():
            vectors = model.layer.vectors
            return token_similarities(one.attention, one.h, vectors).numpy()

    @isolated_torch()
    def pairs(text: Text, j: int) -> np.ndarray:
        one, other = tokens(text), tokens(quoted(j))
        with torch.inference_mode():
            return align(one.attention, one.h, other.attention, other.h).numpy()

    @isolated_torch()
    def coordinates(j: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        other = tokens(quoted(j))
        return other.segments, other.offsets, other.unread

    return Splitter(similarities, pairs, coordinates)


def _encode_text(model: FittedModel, text: Text) -> _Tokens:
    texts: Any = [text]
    tokenized = model.tokenize(texts, with_offsets=True, quiet=True)
    assert tokenized.segments is not None
    assert tokenized.offsets is not None
    encoded = next(model.encode(tokenized))
    content = tokenized.own[0]
    columns = torch.from_numpy(np.flatnonzero(content))
    return _Tokens(
        encoded.attention[0].cpu()[columns],
        encoded.h[0].cpu()[columns],
        tokenized.segments[0][content],
        tokenized.offsets[0][content],
        tokenized.unread[0][content],
    )


def align(
    attention: Tensor, h: Tensor, other_attention: Tensor, other_h: Tensor
) -> Tensor:
    """Split the cosine of two texts over pairs of their tokens, (T, U).

    α_t α_u (h_t·h_u)/(‖s‖‖s_j‖); it sums to cos(s, s_j).
    """
    one = attention.double()[:, None] * h.double()
    other = other_attention.double()[:, None] * other_h.double()
    return one @ other.T / (one.sum(dim=0).norm() * other.sum(dim=0).norm())
