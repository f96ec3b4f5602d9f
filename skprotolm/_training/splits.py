"""The texts of a fit: which are trained on, which are held out, which may be quoted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from skprotolm._config import FitConfig
from skprotolm._data.targets import Targets
from skprotolm._data.texts import Columns, Texts, shown
from skprotolm._network.token_vectors import ReadTexts
from skprotolm._network.tokenizer import TokenizedTexts
from skprotolm._tasks.base import Task
from skprotolm._training.neighborhoods import distinct_ids


class Candidates(NamedTuple):
    """The training texts that may become prototypes: one row per distinct text."""

    rows: np.ndarray  # (K,), the first row of each distinct text
    strata: np.ndarray  # (K,)
    text_ids: np.ndarray  # (n,), which distinct text each row holds


@dataclass(frozen=True)
class FitData:
    """The texts and targets of a fit, as the encoder reads them.

    `tokenized` and `source` are of texts, all other fields of what is predicted: of the
    texts, or of their words.
    """

    task: Task
    columns: Columns
    n_rows: int  # of X
    seed: int
    texts: Texts  # that are trained on, as the following fields
    tokenized: TokenizedTexts
    source: ReadTexts  # of token vectors
    targets: Targets
    validation: tuple[ReadTexts, Targets] | None  # held-out texts
    candidates: Candidates
    vectors: Tensor  # (n, H), under the untrained network
    pretrained: Tensor  # (n, P), sentence vectors of the frozen encoder


def find_candidates(keys: Sequence[Any], strata: np.ndarray) -> Candidates:
    """Find the distinct texts that have one target only.

    Parameters
    ----------
    keys : sequence of hashable, length n
        What the encoder reads of each text: texts of one key cannot be told apart.
    strata : ndarray of shape (n,), int
    """
    text_ids = distinct_ids(keys)
    n_distinct = text_ids.max() + 1
    lowest = np.full(n_distinct, np.iinfo(strata.dtype).max)
    highest = np.full(n_distinct, -1)
    np.minimum.at(lowest, text_ids, strata)
    np.maximum.at(highest, text_ids, strata)
    first_rows = np.unique(text_ids, return_index=True)[1]
    rows = first_rows[lowest == highest]
    return Candidates(rows, strata[rows], text_ids)


def split(
    strata: np.ndarray, candidates: Candidates, config: FitConfig, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that are trained on and those that are held out.

    The same fraction of every stratum is held out, but never its last candidate, and
    no copy of a text that is trained on.
    """
    rows = np.arange(len(strata))
    if not config.early_stopping:
        return rows, rows[:0]
    rng = np.random.RandomState(seed)
    held_out = []
    for stratum in range(strata.max() + 1):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        kept = members[np.isin(members, candidates.rows)][:1]
        members = np.append(members[members != kept] if kept.size else members, kept)
        n_out = max(1, round(config.validation_fraction * len(members)))
        held_out.append(members[: min(n_out, len(members) - 1)])
    validation = np.sort(np.concatenate(held_out))
    # A copy of a training text would be scored as if it were new.
    ids = candidates.text_ids
    is_new = ~np.isin(ids[validation], ids[np.setdiff1d(rows, validation)])
    validation = validation[is_new]
    if validation.size == 0:
        raise ValueError(
            "early_stopping=True needs a class, or a range of values, with at least "
            "two texts, one of which can be held out."
        )
    return np.setdiff1d(rows, validation), validation


def split_sentences(
    sentences: np.ndarray, candidates: Candidates, config: FitConfig, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the words that are trained on and those that are held out, by sentences.

    The fraction of the sentences is held out, but none with the last candidate of a
    tag, and no copy of a sentence that is trained on.

    Parameters
    ----------
    sentences : ndarray of shape (n,), int
        The distinct sentence of each word, counted from 0.
    candidates : Candidates
    config : FitConfig
    seed : int
    """
    words = np.arange(len(sentences))
    if not config.early_stopping:
        return words, words[:0]
    n_sentences, n_strata = sentences.max() + 1, candidates.strata.max() + 1
    counts = np.zeros((n_sentences, n_strata), dtype=np.int64)
    np.add.at(counts, (sentences[candidates.rows], candidates.strata), 1)
    left = counts.sum(axis=0)
    n_out = max(1, round(config.validation_fraction * n_sentences))
    held_out: list[int] = []
    for sentence in np.random.RandomState(seed).permutation(n_sentences).tolist():
        in_it = counts[sentence]
        if len(held_out) < n_out and (left > in_it)[in_it > 0].all():
            left -= in_it
            held_out.append(sentence)
    if not held_out:
        raise ValueError(
            "early_stopping=True needs a sentence that can be held out: every tag must "
            "have words in other sentences."
        )
    is_out = np.isin(sentences, held_out)
    return words[~is_out], words[is_out]


def select(targets: Targets, rows: np.ndarray) -> Targets:
    """Return the targets of some texts, with weights of mean 1."""
    weights = targets.weights[rows]
    return Targets(
        targets.values[rows],
        targets.strata[rows],
        weights / weights.mean(),
        targets.rows[rows],
    )


def require_candidates(
    texts: Texts, targets: Targets, candidates: Candidates, task: Task
) -> None:
    """Refuse a stratum whose texts all read like texts of another one."""
    strata, ids = targets.strata, candidates.text_ids
    missing = np.setdiff1d(strata, candidates.strata)
    if not missing.size:
        return
    first = np.flatnonzero(strata == missing[0])[0]
    other = np.flatnonzero((ids == ids[first]) & (strata != strata[first]))[0]
    one, two = (
        f"row {targets.rows[i]}, {shown(texts[i])}, is {task.strata[strata[i]]!r}"
        for i in (first, other)
    )
    reason, noun = "", task.text_noun
    if texts[first] != texts[other]:
        reason = (
            " They differ in what the encoder does not read, such as capital letters, "
            "spaces, words that its tokenizer does not know, or tokens beyond "
            "max_length."
        )
    raise ValueError(
        f"The {task.label_noun} {task.strata[missing[0]]!r} has no {noun} of its own "
        f"that could be its prototype: each of them reads the same to the encoder as a "
        f"{noun} under another label. For example, {one}, and {two}.{reason} Give such "
        f"{noun}s one label, or drop them."
    )
