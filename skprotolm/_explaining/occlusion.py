"""Occlusion: how far the explained value falls without each word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from skprotolm._fitted import FittedModel
from skprotolm._records.base_explanation import BaseExplanation
from skprotolm._records.words import replace_words, split_pair

# Of copies with a word left out that are held in memory; a text has as many as words.
_MAX_CHARACTERS = 2**18


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
    counts = [len(e.word_offsets) for e in explanations]
    if not sum(counts):
        return explanations
    copies = (text for e in explanations for text in _without_each_word(e))
    read = [model.outputs(some, quiet=True) for some in _in_chunks(copies)]
    outputs = torch.from_numpy(np.concatenate(read))
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


def _in_chunks(texts: Iterator[Any]) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    n_characters = 0
    for text in texts:
        chunk.append(text)
        n_characters += sum(map(len, split_pair(text)))
        if n_characters >= _MAX_CHARACTERS:
            yield chunk
            chunk, n_characters = [], 0
    if chunk:
        yield chunk


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
