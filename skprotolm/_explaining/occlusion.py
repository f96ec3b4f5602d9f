"""Occlusion: how far the explained value falls without each word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from skprotolm._fitted import FittedModel
from skprotolm._records.base_explanation import BaseExplanation
from skprotolm._records.words import replace_words

_MAX_TEXTS = 1024  # texts with a word left out that are held in memory


def occlude(
    model: FittedModel,
    explanations: list[BaseExplanation],
    index: np.ndarray,
    against: np.ndarray | None,
) -> list[BaseExplanation]:
    """Score each word by how far the explained value falls without it.

    Parameters
    ----------
    model : FittedModel
    explanations : list of BaseExplanation, length n
    index : ndarray of shape (n,), int
        The output that each explains.
    against : ndarray of shape (n,), int, or None
        The output that each is compared with.
    """
    occluded: list[BaseExplanation] = []
    start = n_words = 0
    for stop, e in enumerate(explanations, start=1):
        n_words += len(e.word_offsets)
        if n_words >= _MAX_TEXTS or stop == len(explanations):
            some = slice(start, stop)
            rivals = None if against is None else against[some]
            occluded += _occlude_some(model, explanations[some], index[some], rivals)
            start, n_words = stop, 0
    return occluded


def _occlude_some(
    model: FittedModel,
    explanations: list[BaseExplanation],
    index: np.ndarray,
    against: np.ndarray | None,
) -> list[BaseExplanation]:
    counts = [len(e.word_offsets) for e in explanations]
    if not sum(counts):
        return explanations
    texts = (text for e in explanations for text in _without_each_word(e))
    outputs = torch.from_numpy(
        np.concatenate(
            [
                model.outputs(some, quiet=True)
                # Of a text of many words, all copies would fill the memory.
                for some in iter(lambda: list(islice(texts, _MAX_TEXTS)), [])
            ]
        )
    )
    repeated = torch.from_numpy(np.repeat(index, counts))
    rivals = None
    if against is not None:
        rivals = torch.from_numpy(np.repeat(against, counts))
    without = model.layer.explained(outputs, repeated, rivals).numpy()
    return [
        _with_word_scores(e, e.explained - values)
        for e, values in zip(
            explanations, np.split(without, np.cumsum(counts)[:-1]), strict=True
        )
    ]


def _without_each_word(e: BaseExplanation) -> Iterator[Any]:
    for span in e.word_offsets.tolist():
        yield replace_words(e.text, [span], deleted=e.unread_spans)


def _with_word_scores(e: BaseExplanation, word_scores: np.ndarray) -> BaseExplanation:
    """Distribute each word's score evenly over its tokens."""
    word_ids = e.word_ids
    scores = (word_scores / np.bincount(word_ids))[word_ids]
    base_value = e.base_value
    if e.unit.has_token_sums:
        base_value = e.explained - float(scores.sum())
    return replace(
        e, token_scores=scores, token_method="occlusion", base_value=base_value
    )
