"""A fitted model and texts to explanations: over prototypes, and over tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from skprotolm._data.texts import Texts
from skprotolm._explaining.alignment import TokenSplits
from skprotolm._explaining.attribution import token_scores
from skprotolm._explaining.kinds import kind_of
from skprotolm._explaining.occlusion import occlude
from skprotolm._explaining.relevance import (
    is_supported,
    linearized_encoder,
    relevance,
)
from skprotolm._fitted import FittedModel
from skprotolm._network.network import Encoded
from skprotolm._network.pooling import pool
from skprotolm._network.prototypes import Attribution
from skprotolm._network.tokenizer import TokenizedTexts
from skprotolm._records.base_explanation import BaseExplanation
from skprotolm._records.explanations import Explanations
from skprotolm._records.words import Text
from skprotolm._runtime import isolated_torch


@isolated_torch()
def explain(
    model: FittedModel,
    texts: Texts,
    index: np.ndarray | None = None,
    against: np.ndarray | None = None,
    top_k: int | None = None,
    token_method: str | None = None,
) -> Explanations[Any]:
    """Explain outputs of texts.

    Parameters
    ----------
    model : FittedModel
    texts : list of str or of (str, str)
    index : ndarray of shape (n,), int, or None
        The output that is explained per text; None for the predicted ones.
    against : ndarray of shape (n,), int, or None
        The output that each is compared with; None for all others.
    top_k : int or None
        The number of prototypes that are listed; None for all.
    token_method : str or None
        As in `BaseProtoLM.explain`; None for explanations without token scores.
    """
    method = None if token_method is None else choose_method(model, token_method)
    tokenized = model.tokenize(texts, with_offsets=True)
    splitter = TokenSplits(model)
    # Relevance scores need not sum to the explained value minus the base.
    adjust_base = method == "relevance" and model.layer.unit.has_token_sums
    kind = kind_of(model)
    records: dict[int, BaseExplanation] = {}
    explained = np.empty(len(texts), dtype=np.int64)
    for encoded in model.encode(tokenized):
        rows = encoded.rows
        s = encoded.s.cpu().double()
        with torch.inference_mode(False):
            attribution = model.layer.attribute(
                s, _take(index, rows), _take(against, rows)
            )
        explained[rows] = attribution.target.numpy()
        scores = score_tokens(model, tokenized, encoded, attribution, method)
        described = kind.fields(model, attribution, rows)
        for b, row in enumerate(rows):
            content_mask = tokenized.content_mask[row]
            records[row] = kind.record(
                text=texts[row],
                **described[b],
                similarities=attribution.similarities[b].numpy().copy(),
                _prototypes=model.prototype_texts,
                **_token_fields(model, texts[row], tokenized, row),
                **_score_fields(
                    content_mask, encoded, attribution, scores, b, adjust_base
                ),
                novelty=float(attribution.novelty[b]),
                novelty_limit=model.novelty_limit,
                token_method=None if scores is None else method,
                top_k=top_k,
                _splitter=splitter,
            )
    ordered = [records[row] for row in range(len(texts))]
    if method == "occlusion":
        ordered = occlude(model, ordered, explained, against)
    return Explanations(ordered)


def _take(outputs: np.ndarray | None, rows: np.ndarray) -> Tensor | None:
    return None if outputs is None else torch.from_numpy(outputs[rows])


def choose_method(model: FittedModel, token_method: str) -> str | None:
    """Return how tokens are scored; None if "auto" has no method to offer."""
    is_exact = model.layer.unit.has_token_sums
    if token_method == "decomposition" and not is_exact:
        raise ValueError(
            'formulation="proto-lm" has no exact split over tokens, so '
            "token_method='decomposition' is not available; use 'relevance' or "
            "'occlusion'."
        )
    if token_method != "auto":
        return token_method
    if is_supported(model.network.encoder):
        return "relevance"
    return "decomposition" if is_exact else None


def score_tokens(
    model: FittedModel,
    tokenized: TokenizedTexts,
    encoded: Encoded,
    attribution: Attribution,
    method: str | None,
) -> np.ndarray | None:
    """Return token scores (B, T) of a batch, if the method gives them by batch."""
    if method == "decomposition":
        with torch.inference_mode():
            return token_scores(encoded, attribution.direction).numpy()
    if method == "relevance":
        scores = _relevance_scores(model, tokenized, encoded.rows, attribution)
        return scores.numpy()
    return None


def _relevance_scores(
    model: FittedModel,
    tokenized: TokenizedTexts,
    rows: np.ndarray,
    attribution: Attribution,
) -> Tensor:
    """Score the tokens of a batch by relevance."""
    encoder, attention = model.network.encoder, model.network.attention
    batch = encoder.tokenizer.collate(tokenized, rows).to(encoder.device)
    with linearized_encoder(encoder).run(batch) as linearized:
        weights = linearized.attention_weights(attention)
        s = pool(weights.detach(), linearized.h.detach())
        at_low_presence = model.layer.attribute(
            s.cpu().double(), attribution.target, attribution.against
        )
        # Relevance is linear in the direction, whose size may not be one of float32.
        direction = at_low_presence.direction
        size = direction.abs().amax(dim=1, keepdim=True).clamp_min(1e-300)
        scores = relevance(linearized, weights, direction / size)
    return scores.cpu().double() * size


def _token_fields(
    model: FittedModel, text: Text, tokenized: TokenizedTexts, row: int
) -> dict[str, Any]:
    """Return what an explanation holds of the content tokens of a text."""
    assert tokenized.offsets is not None
    assert tokenized.segments is not None
    content = tokenized.content_mask[row]
    offsets = tokenized.offsets[row][content]
    segments = tokenized.segments[row][content]
    texts = (text,) if isinstance(text, str) else text
    token_name = model.network.encoder.tokenizer.token_name
    tokens = zip(
        tokenized.ids[row][content].tolist(),
        offsets.tolist(),
        segments.tolist(),
        strict=True,
    )
    return {
        # As they stand in the text; special tokens by their name.
        "tokens": tuple(
            texts[segment][start:end] if end > start else token_name(token_id)
            for token_id, (start, end), segment in tokens
        ),
        "offsets": offsets,
        "segments": segments,
        "token_unread": tokenized.unread[row][content],
    }


def _score_fields(
    content_mask: np.ndarray,
    encoded: Encoded,
    attribution: Attribution,
    scores: np.ndarray | None,
    b: int,
    adjust_base: bool,
) -> dict[str, Any]:
    """Return attention and scores of the content tokens, and the base value."""
    attention = encoded.attention[b, : len(content_mask)].cpu().double().numpy()
    explained, base_value = float(attribution.explained[b]), float(attribution.base[b])
    token_scores = None
    if scores is not None:
        token_scores = scores[b, : len(content_mask)][content_mask]
        if adjust_base:
            base_value = explained - float(token_scores.sum())
    return {
        "attention": attention[content_mask],
        "token_scores": token_scores,
        "base_value": base_value,
    }
