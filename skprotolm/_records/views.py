"""Explanations as plain dicts: for JSON dumps, pages and data frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from skprotolm._config import COUNT_OR_ZERO, require
from skprotolm._records.matching import Matches
from skprotolm._records.parts import NoSplitError, QuotedWords, as_list
from skprotolm._records.sentences import sentence_spans

_LISTED = 5  # prototypes on a page if top_k is None
_FURTHER = 5  # prototypes of the target, and of other classes, that follow on demand
# Pairs of matching words: at most 60 per prototype, none with less than a fifth of the
# largest excess, or with a lower correlation.
_MAX_PAIRS, _WEAKEST_PAIR, _LOWEST_CORRELATION = 60, 0.2, 0.4


def to_dict(e: Any, n_alignments: int = 0) -> dict[str, Any]:
    """Return an explanation as plain Python objects."""
    require("n_alignments", n_alignments, COUNT_OR_ZERO)
    listed = e.order[: e.top_k]
    return {
        "kind": e.kind,
        "text": e.text,
        "prediction": e.prediction,
        **e._kind_dict(),
        "base_value": e.base_value,
        "novelty": e.novelty,
        "novelty_limit": e.novelty_limit,
        "nearest_similarity": e.nearest_similarity,
        "is_unlike": e.is_unlike,
        "prototypes": _prototype_dicts(e, listed),
        "tokens": list(e.tokens),
        "offsets": e.offsets.tolist(),
        "segments": e.segments.tolist(),
        "attention": e.attention.tolist(),
        "token_scores": as_list(e.token_scores),
        "token_method": e.token_method,
        "token_unread": e.token_unread.tolist(),
        "words": list(e.words),
        "word_offsets": e.word_offsets.tolist(),
        "word_scores": as_list(e.word_scores),
        "word_unread": e.word_unread.tolist(),
        "read_fraction": e.read_fraction,
        "sentences": list(e.sentences),
        "sentence_offsets": e.sentence_offsets.tolist(),
        "sentence_ids": e.sentence_ids.tolist(),
        "sentence_scores": as_list(e.sentence_scores),
        "alignments": list(_alignments(e, listed[:n_alignments].tolist())),
    }


def _prototype_dicts(e: Any, indices: np.ndarray) -> list[dict[str, Any]]:
    prototypes = e._contributions_of(indices)
    return [{**vars(p), "unread": list(p.unread)} for p in prototypes]


def listed_record(e: Any) -> dict[str, Any]:
    """Return the dict of an explanation with the prototypes that HTML lists.

    A prototype has a "role": its class is the "target", the class "against" which the
    target is explained, or an "other" one. "reads_like" is whether the text reads like
    its text. "groups" are the prototypes of each role
    that are not listed, with the sum of their contributions.
    """
    roles, listed, reads_like = e._roles, e._listed(_LISTED), e._reads_like
    prototypes = [
        {
            **entry,
            "role": str(roles[entry["index"]]),
            "reads_like": bool(reads_like[entry["index"]]),
            "sentence_offsets": sentence_spans(entry["text"]),
        }
        for entry in _prototype_dicts(e, listed)
    ]
    unlisted = e.order[~np.isin(e.order, listed)]
    n_further = 0 if e.top_k else _FURTHER
    groups = []
    for role in ("target", "against", "other"):
        group = unlisted[roles[unlisted] == role]
        if len(group):
            groups.append(
                {
                    "role": role,
                    "n": len(group),
                    **e._sum_of(group),
                    "prototypes": _prototype_dicts(e, group[:n_further]),
                }
            )
    plain = to_dict(replace(e, top_k=1))  # its list is replaced
    return {**plain, "prototypes": prototypes, "groups": groups}


def page_record(e: Any, indices: Iterable[int]) -> dict[str, Any]:
    """Return `listed_record` with the matching words of some prototypes."""
    matches = []
    for j in indices:
        with suppress(NoSplitError):
            quoted, pairs = e._matches(j)
            listed = _matching_pairs(e.words, quoted.words, pairs)
            matches.append({**_quoted_words(e, quoted), "pairs": listed})
    return {**listed_record(e), "matches": matches}


def page_records(
    explanations: Iterable[Any], n_alignments: int
) -> list[dict[str, Any]]:
    """Return `page_record` per explanation, with alignments of the first prototypes."""
    require("n_alignments", n_alignments, COUNT_OR_ZERO)
    return [
        page_record(e, e._listed(_LISTED)[:n_alignments].tolist()) for e in explanations
    ]


def _alignments(e: Any, indices: Iterable[int]) -> Iterator[dict[str, Any]]:
    """Yield the word alignments of the prototypes that have one."""
    matrices = ("matrix", "excess", "correlation")
    for j in indices:
        with suppress(NoSplitError):
            alignment = e.word_alignment(j)
            yield {
                **_quoted_words(e, e._quoted_words(j)),
                **{name: getattr(alignment, name).tolist() for name in matrices},
            }


def _quoted_words(e: Any, quoted: QuotedWords) -> dict[str, Any]:
    return {
        "index": quoted.prototype,
        "text": e.prototype_texts[quoted.prototype],
        "words": list(quoted.words),
        "offsets": quoted.offsets.tolist(),
        "unread": quoted.unread.tolist(),
    }


def _matching_pairs(
    words: Sequence[str], quoted: Sequence[str], pairs: Matches
) -> list[list[float]]:
    """List the pairs of words that count and match: positions and correlation.

    Punctuation is left out.
    """
    rows_are_words = np.array([_has_letters(word) for word in words])
    columns_are_words = np.array([_has_letters(word) for word in quoted])
    are_words = rows_are_words[pairs.rows] & columns_are_words[pairs.columns]
    excess = np.where(are_words, pairs.excess, 0)
    counts = (excess > 0) & (excess >= _WEAKEST_PAIR * excess.max(initial=0))
    listed = np.flatnonzero(counts & (pairs.correlation >= _LOWEST_CORRELATION))
    listed = listed[np.argsort(-excess[listed], kind="stable")][:_MAX_PAIRS]
    columns = (pairs.rows, pairs.columns, pairs.correlation)
    rows, others, correlations = (column[listed].tolist() for column in columns)
    return [
        [i, j, float(f"{correlation:.2f}")]
        for i, j, correlation in zip(rows, others, correlations, strict=True)
    ]


def _has_letters(word: str) -> bool:
    return any(character.isalnum() for character in word)


def frame_rows(explanations: Sequence[Any]) -> list[dict[str, Any]]:
    """Return one dict per explanation and listed prototype."""
    return [
        {
            "row": row,
            "text": e.text,
            "prediction": e.prediction,
            **e._kind_row(),
            "is_unlike": e.is_unlike,
            **p.row(e),
        }
        for row, e in enumerate(explanations)
        for p in e.prototypes
    ]
