"""Explanations as plain dicts: for JSON dumps, pages and data frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from skprotolm._config import USAGE, require
from skprotolm._records.parts import NoSplitError

_LISTED = 5  # prototypes on a page if top_k is None


def to_dict(e: Any, n_alignments: int = 0) -> dict[str, Any]:
    """Return an `Explanation` as plain Python objects."""
    require("n_alignments", n_alignments, USAGE)
    return {
        "text": e.text,
        "prediction": e.prediction,
        "target": e.target,
        "against": e.against,
        "labels": e.classes.tolist(),
        "probabilities": e.class_probabilities.tolist(),
        "space": e.space,
        "base_value": e.base_value,
        "log_odds": e.log_odds,
        "score": e.score,
        "novelty": e.novelty,
        "novelty_limit": e.novelty_limit,
        "nearest_similarity": e.nearest_similarity,
        "is_unlike": e.is_unlike,
        "prototypes": [
            {
                "index": p.index,
                "label": p.label,
                "text": p.text,
                "unread": list(p.unread),
                "similarity": p.similarity,
                "contribution": p.contribution,
            }
            for p in e.prototypes
        ],
        "remainder": e.remainder,
        "tokens": list(e.tokens),
        "offsets": e.offsets.tolist(),
        "segments": e.segments.tolist(),
        "attention": e.attention.tolist(),
        "token_scores": _as_list(e.token_scores),
        "token_method": e.token_method,
        "token_unread": e.token_unread.tolist(),
        "words": list(e.words),
        "word_offsets": e.word_offsets.tolist(),
        "word_scores": _as_list(e.word_scores),
        "word_unread": e.word_unread.tolist(),
        "read_fraction": e.read_fraction,
        "sentences": list(e.sentences),
        "sentence_offsets": e.sentence_offsets.tolist(),
        "sentence_ids": e.sentence_ids.tolist(),
        "sentence_scores": _as_list(e.sentence_scores),
        "alignments": _alignments(e, _first(e, n_alignments)),
    }


def listed_record(e: Any) -> dict[str, Any]:
    """Return the dict of an explanation with the prototypes that HTML lists."""
    return to_dict(replace(e, top_k=e.top_k or _LISTED))


def page_record(e: Any, indices: Iterable[int]) -> dict[str, Any]:
    """Return `listed_record` with the word alignments of some prototypes."""
    matches = [
        {**a, **{k: np.round(a[k], 5).tolist() for k in ("matrix", "excess")}}
        for a in _alignments(e, indices)
    ]
    return {**listed_record(e), "matches": matches}


def page_records(
    explanations: Iterable[Any], n_alignments: int
) -> list[dict[str, Any]]:
    """Return `page_record` per explanation, with alignments of the first prototypes."""
    require("n_alignments", n_alignments, USAGE)
    return [page_record(e, _first(e, n_alignments)) for e in explanations]


def _first(e: Any, n: int) -> list[int]:
    """Return the indices of the first n listed prototypes."""
    return [p.index for p in e.prototypes[:n]]


def _alignments(e: Any, indices: Iterable[int]) -> list[dict[str, Any]]:
    """Return the word alignments of the prototypes that have one."""
    alignments = []
    for j in indices:
        try:
            alignment = e.word_alignment(j)
        except NoSplitError:
            continue
        alignments.append(
            {
                "index": j,
                "text": e.prototype_texts[j],
                "words": list(alignment.words),
                "offsets": alignment.offsets.tolist(),
                "unread": alignment.unread.tolist(),
                "matrix": alignment.matrix.tolist(),
                "excess": alignment.excess.tolist(),
            }
        )
    return alignments


def frame_rows(explanations: Sequence[Any]) -> list[dict[str, Any]]:
    """Return one dict per explanation and listed prototype."""
    return [
        {
            "row": row,
            "text": e.text,
            "prediction": e.prediction,
            "target": e.target,
            "against": e.against,
            "probability": e.probability,
            "is_unlike": e.is_unlike,
            "prototype": p.index,
            "prototype_label": p.label,
            "prototype_text": p.text,
            "prototype_unread": p.unread,
            "of_target": p.label == e.target,
            "similarity": p.similarity,
            "contribution": p.contribution,
        }
        for row, e in enumerate(explanations)
        for p in e.prototypes
    ]


def _as_list(values: np.ndarray | None) -> list[float] | None:
    return None if values is None else values.tolist()
