"""Explanations as plain dicts: for JSON dumps, pages and data frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from skprotolm._config import USAGE, require
from skprotolm._records.parts import Contribution, NoSplitError
from skprotolm._records.sentences import sentence_spans

_LISTED = 5  # prototypes on a page if top_k is None
_LISTED_PER_CLASS = 3  # the same for each of two classes that are compared
_FURTHER = 5  # prototypes of the target, and of other classes, that follow on demand
# Pairs of matching words: at most 60 per prototype, none with less than a fifth of the
# largest excess, or with a lower correlation.
_MAX_PAIRS, _WEAKEST_PAIR, _LOWEST_CORRELATION = 60, 0.2, 0.3


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
        "prototypes": _prototype_dicts(e.prototypes),
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
        "alignments": _alignments(e, [p.index for p in e.prototypes[:n_alignments]]),
    }


def _prototype_dicts(prototypes: Iterable[Contribution]) -> list[dict[str, Any]]:
    return [{**vars(p), "unread": list(p.unread)} for p in prototypes]


def listed_record(e: Any) -> dict[str, Any]:
    """Return the dict of an explanation with the prototypes that HTML lists.

    A prototype has a "role": its class is the "target", the class "against" which the
    target is explained, or an "other" one. "groups" are the prototypes of each role
    that are not listed, with the sum of their contributions.
    """
    roles = {e.against: "against", e.target: "target"}
    listed = _listed(e)
    prototypes = [
        {
            **entry,
            "role": roles.get(entry["label"], "other"),
            "sentence_offsets": sentence_spans(entry["text"]),
        }
        for entry in _prototype_dicts(listed)
    ]
    indices = {p.index for p in listed}
    unlisted = [p for p in replace(e, top_k=None).prototypes if p.index not in indices]
    n_further = 0 if e.top_k else _FURTHER
    groups = []
    for role in ("target", "against", "other"):
        group = [p for p in unlisted if roles.get(p.label, "other") == role]
        if group:
            groups.append(
                {
                    "role": role,
                    "n": len(group),
                    "contribution": sum(p.contribution for p in group),
                    "prototypes": _prototype_dicts(group[:n_further]),
                }
            )
    return {**to_dict(e), "prototypes": prototypes, "groups": groups}


def _listed(e: Any) -> list[Contribution]:
    """Return the prototypes that HTML lists, in descending order of contributions."""
    prototypes = replace(e, top_k=None).prototypes
    if e.against is None:
        return list(prototypes[: e.top_k or _LISTED])
    n = e.top_k or _LISTED_PER_CLASS
    pairs = [
        [p for p in prototypes if p.label == label][:n]
        for label in (e.target, e.against)
    ]
    return sorted([*pairs[0], *pairs[1]], key=lambda p: -p.contribution)


def page_record(e: Any, indices: Iterable[int]) -> dict[str, Any]:
    """Return `listed_record` with the matching words of some prototypes."""
    return {**listed_record(e), "matches": [_match(a) for a in _alignments(e, indices)]}


def _match(alignment: dict[str, Any]) -> dict[str, Any]:
    """Return an alignment with its strongest pairs of words, without its matrices."""
    matrices = ("matrix", "excess", "correlation")
    parts = {k: v for k, v in alignment.items() if k not in matrices}
    excess, correlation = (np.array(alignment[k]) for k in matrices[1:])
    return {**parts, "pairs": _matching_pairs(excess, correlation)}


def page_records(
    explanations: Iterable[Any], n_alignments: int
) -> list[dict[str, Any]]:
    """Return `page_record` per explanation, with alignments of the first prototypes."""
    require("n_alignments", n_alignments, USAGE)
    return [
        page_record(e, [p.index for p in _listed(e)[:n_alignments]])
        for e in explanations
    ]


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
                "correlation": alignment.correlation.tolist(),
            }
        )
    return alignments


def _matching_pairs(excess: np.ndarray, correlation: np.ndarray) -> list[list[float]]:
    """List the pairs of words that count and match: positions and correlation."""
    strongest = excess.max(initial=0.0)
    counts = (excess >= _WEAKEST_PAIR * strongest) & (excess > 0)
    rows, columns = np.nonzero(counts & (correlation >= _LOWEST_CORRELATION))
    order = np.argsort(-excess[rows, columns], kind="stable")[:_MAX_PAIRS]
    return [
        [i, j, float(f"{correlation[i, j]:.2f}")]
        for i, j in zip(rows[order].tolist(), columns[order].tolist(), strict=True)
    ]


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
            "prototype_name": p.name,
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
