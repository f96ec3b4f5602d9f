"""A fitted model and texts to explanations: over prototypes, and over tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skprotolm._data.texts import Text, Texts
from skprotolm._explaining.alignment import TokenSplits
from skprotolm._explaining.attribution import sum_by_token, token_scores
from skprotolm._explaining.compared import ComparedText, ComparedTexts
from skprotolm._explaining.kinds import kind_fields
from skprotolm._explaining.occlusion import occlude
from skprotolm._explaining.relevance import (
    LinearizedBatch,
    is_supported,
    linearized_encoder,
    relevance,
)
from skprotolm._fitted import FittedModel
from skprotolm._network.network import Encoded
from skprotolm._network.pooling import (
    MergedTexts,
    PooledWindows,
    TokenAttention,
    merge_windows,
)
from skprotolm._network.prototypes import Attribution
from skprotolm._network.tokenized import TextTokens, TokenizedTexts
from skprotolm._network.windows import WindowIndex
from skprotolm._records.base_explanation import BaseExplanation
from skprotolm._records.explanations import KINDS, Explanations
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
    kind = KINDS[model.task.kind]
    records: dict[int, BaseExplanation] = {}
    compared = ComparedTexts(model.layer, len(texts), against)
    for encoded in model.encode(tokenized):
        rows = encoded.rows
        s = encoded.s.cpu().double()
        with torch.inference_mode(False):
            attribution = model.layer.attribute(
                s, _take(index, rows), _take(against, rows)
            )
        compared.add(rows, s, attribution.target)
        attention = sum_by_token(tokenized, encoded.windows, encoded.attention)
        scores = score_tokens(model, tokenized, encoded, attribution, method)
        described = kind_fields(model, attribution, rows)
        for b, row in enumerate(rows.tolist()):
            records[row] = kind(
                text=texts[row],
                **described[b],
                _prototypes=model.prototype_texts,
                _compared=ComparedText(compared, row),
                **_token_fields(model, texts[row], tokenized[row]),
                **_score_fields(
                    attribution, b, scores[row] if scores else None, adjust_base
                ),
                attention=attention[row],
                novelty=float(attribution.novelty[b]),
                novelty_limit=model.novelty_limit,
                token_method=None if scores is None else method,
                top_k=top_k,
                _splitter=splitter,
            )
    ordered = [records[row] for row in range(len(texts))]
    if method == "occlusion":
        ordered = occlude(model, ordered, compared.target.numpy(), against)
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
) -> dict[int, np.ndarray] | None:
    """Return the scores of content tokens by row, if the method gives them by batch."""
    if method == "decomposition":
        scores = token_scores(encoded, attribution.direction)
    elif method == "relevance":
        scores = relevance_scores(model, tokenized, encoded, attribution)
    else:
        return None
    return sum_by_token(tokenized, encoded.windows, scores)


def relevance_scores(
    model: FittedModel,
    tokenized: TokenizedTexts,
    encoded: Encoded,
    attribution: Attribution,
) -> Iterator[Tensor]:
    """Score the tokens of each window by relevance, (W, T) of each part."""
    encoder, attention = model.network.encoder, model.network.attention
    linearized = linearized_encoder(encoder)

    def run(part: WindowIndex, **options: bool) -> Any:
        batch = encoder.tokenizer.collate(tokenized, *part)
        return linearized.run(batch.to(encoder.device), **options)

    if len(encoded.windows) == 1:  # one run serves both steps
        [part], [texts] = encoded.windows, encoded.texts
        with run(part) as batch:
            pooled = [batch.pool(attention)]
            merged, direction = _at_low_presence(model, encoded, attribution, pooled)
            scores = _score_windows(batch, attention, texts, merged, direction)
        yield scores
        return
    pooled = []
    for part in encoded.windows:
        with run(part, with_graph=False) as batch:
            pooled.append(batch.pool(attention))
    merged, direction = _at_low_presence(model, encoded, attribution, pooled)
    for part, texts in zip(encoded.windows, encoded.texts, strict=True):
        with run(part) as batch:
            scores = _score_windows(batch, attention, texts, merged, direction)
        del batch  # with its graph, before the next one
        yield scores


def _at_low_presence(
    model: FittedModel,
    encoded: Encoded,
    attribution: Attribution,
    pooled: list[PooledWindows],
) -> tuple[MergedTexts, Tensor]:
    """Merge the windows at a low presence, and return the direction (B, H) there."""
    merged = merge_windows(
        torch.cat([p.log_sums for p in pooled]),
        torch.cat([p.s for p in pooled]),
        torch.cat(encoded.texts).to(pooled[0].s.device),
        len(encoded.rows),
    )
    direction = model.layer.attribute(
        merged.s.cpu().double(), attribution.target, attribution.against
    ).direction
    return merged, direction


def _score_windows(
    batch: LinearizedBatch,
    attention: TokenAttention,
    texts: Tensor,
    merged: MergedTexts,
    direction: Tensor,
) -> Tensor:
    """Return the relevance (W, T) of windows; `texts` (W,) is the text of each."""
    direction = direction[texts]
    # Relevance is linear in the direction, whose size may not be one of float32.
    size = direction.abs().amax(dim=1, keepdim=True).clamp_min(1e-300)
    texts = texts.to(merged.s.device)
    weights = batch.attention_weights(attention, merged.log_totals[texts])
    scores = relevance(batch, weights, direction / size, merged.s[texts])
    return scores.cpu().double() * size


def _token_fields(model: FittedModel, text: Text, tokens: TextTokens) -> dict[str, Any]:
    """Return what an explanation holds of the content tokens of a text."""
    content = tokens.content_mask
    ids, offsets, segments, unread = (
        array[content]
        for array in (tokens.ids, tokens.offsets, tokens.segments, tokens.unread)
    )
    texts = (text,) if isinstance(text, str) else text
    token_name = model.network.encoder.tokenizer.token_name
    return {
        # As they stand in the text; special tokens by their name.
        "tokens": tuple(
            texts[segment][start:end] if end > start else token_name(token_id)
            for token_id, (start, end), segment in zip(
                ids.tolist(), offsets.tolist(), segments.tolist(), strict=True
            )
        ),
        "offsets": offsets,
        "segments": segments,
        "token_unread": unread,
    }


def _score_fields(
    attribution: Attribution, b: int, scores: np.ndarray | None, adjust_base: bool
) -> dict[str, Any]:
    """Return the scores of the content tokens, and the base value."""
    base_value = float(attribution.base[b])
    if scores is not None and adjust_base:
        base_value = float(attribution.explained[b]) - float(scores.sum())
    return {"token_scores": scores, "base_value": base_value}
