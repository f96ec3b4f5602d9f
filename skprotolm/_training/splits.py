"""The texts of a fit: what is trained on, what is held out, and what may be quoted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from skprotolm._data.targets import Targets
from skprotolm._data.texts import Columns, Texts, shown
from skprotolm._network.token_vectors import ReadTexts
from skprotolm._network.tokenized import TokenizedTexts
from skprotolm._processes import ALONE, Processes
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
    processes: Processes = ALONE  # that fit, with the same data


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
    reason, noun = "", task.unit_noun
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
