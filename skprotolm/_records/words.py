"""Tokens to the words of the text they stand in, by character offsets."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

# A word is a run between spaces, or one ideograph or kana, where no spaces are.
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_IDEOGRAPHS}]|[^\\s{_IDEOGRAPHS}]+")


class Words(NamedTuple):
    """The words that tokens stand for."""

    spans: list[tuple[int, int, int]]  # W of (segment, start, end)
    owners: np.ndarray  # (T,) int64, the word of each token


def merge_tokens(
    texts: Sequence[str], segments: np.ndarray, offsets: np.ndarray
) -> Words:
    """Find each token's word.

    A token that stands for several words joins them; a special token stands for none
    and has an empty span of its own.

    Parameters
    ----------
    texts : sequence of str
        One text, or the two of a pair.
    segments : ndarray of shape (T,)
        Which of the texts each token stands in.
    offsets : ndarray of shape (T, 2)
        Where it begins and ends there.
    """
    found = [[match.span() for match in _WORD.finditer(text)] for text in texts]
    spans: list[tuple[int, int, int]] = []
    owners = np.empty(len(segments), dtype=np.int64)
    for t, (segment, (start, end)) in enumerate(
        zip(segments.tolist(), offsets.tolist(), strict=True)
    ):
        words = found[segment]
        is_blank = not texts[segment][start:end].strip()
        # A token of nothing but space belongs to the word behind it.
        reach = len(texts[segment]) if is_blank and end > start else end
        first = bisect_right(words, start, key=lambda word: word[1])
        last = bisect_left(words, reach, key=lambda word: word[0])
        touched = words[first : first + 1 if is_blank else last] if first < last else []
        span = (segment, start, end)
        if touched:
            span = (segment, touched[0][0], touched[-1][1])
        if spans and touched and spans[-1][0] == segment and spans[-1][2] > span[1]:
            spans[-1] = (segment, spans[-1][1], max(spans[-1][2], span[2]))
        else:
            spans.append(span)
        owners[t] = len(spans) - 1
    return Words(spans, owners)


def words_at(
    text: str | tuple[str, str], segments: np.ndarray, offsets: np.ndarray
) -> tuple[str, ...]:
    """Return the words of a text, or a pair of texts, that some tokens (T,) are of."""
    texts = (text,) if isinstance(text, str) else text
    spans = merge_tokens(texts, segments, offsets).spans
    return tuple(texts[segment][start:end] for segment, start, end in spans)


def replace_words(
    text: str | tuple[str, str],
    spans: Iterable[Sequence[int]],
    put: str = "",
    *,
    left_out: Iterable[Sequence[int]] = (),
) -> str | tuple[str, str]:
    """Return a text, or a pair of texts, with other characters in place of some words.

    Parameters
    ----------
    text : str or (str, str)
    spans : iterable of (segment, start, end)
        The words, none over another.
    put : str, default=""
        What stands in place of each; by default nothing, so that it is left out.
    left_out : iterable of (segment, start, end)
        Further parts of the text, in whose place nothing stands.
    """
    texts = [text] if isinstance(text, str) else list(text)
    new: list[Any] = [(*span, put) for span in spans]
    new += [(*span, "") for span in left_out]
    # From the end, so that the places of the others hold.
    for segment, start, end, instead in sorted(new, reverse=True):
        if end == start:  # a special token, which stands nowhere in the text
            continue
        texts[segment] = texts[segment][:start] + instead + texts[segment][end:]
    return texts[0] if isinstance(text, str) else (texts[0], texts[1])


def unread(
    text: str | tuple[str, str], spans: Iterable[Sequence[int]]
) -> list[tuple[int, int, int]]:
    """Find the parts of a text, or a pair of texts, that the encoder does not read.

    They would be read in the place of words that are taken out.

    Parameters
    ----------
    text : str or (str, str)
    spans : iterable of (segment, start, end)
        The words that are read.

    Returns
    -------
    list of (segment, start, end)
    """
    found: list[tuple[int, int, int]] = []
    read = [tuple(span) for span in spans if span[2] > span[1]]
    for segment, whole in enumerate((text,) if isinstance(text, str) else text):
        mine = [span for span in read if span[0] == segment]
        start = min((span[1] for span in mine), default=0)
        end = max((span[2] for span in mine), default=0)
        # Before the first word there is something where a tokenizer cuts at the left.
        outside = [(segment, 0, start), (segment, end, len(whole))]
        found += [span for span in outside if whole[span[1] : span[2]].strip()]
    return found
