"""Sentences of a text, by punctuation; without models of languages."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from skprotolm._data.texts import Text
from skprotolm._records.words import Span, split_pair

_ENDS, _CJK_ENDS, _CLOSERS = ".!?…।॥؟۔", "。！？｡", "\"'”’»)\\]}›」』）】〉》"
# Marks with the quotes and brackets after them, before a space; tokenized texts have
# spaces between the marks. Chinese and Japanese use no spaces. A match begins at the
# first of several marks: tried at each of them, long runs take quadratic time.
_BOUNDARY = re.compile(
    f"(?<![{_ENDS}])[{_ENDS}]+(?:[ \\t]+[{_ENDS}]+(?=\\s|$))*[{_CLOSERS}]*(?=\\s|$)"
    f"|[{_CJK_ENDS}]+[{_CLOSERS}]*"
    "|\\n[^\\S\\n]*(?=\\n)"
)
# A word whose period ends no sentence: an initial (but not the pronoun), or one of the
# most common abbreviations.
_ABBREVIATION = re.compile(
    r"(?:^|\W)(?:[A-HJ-Z]|(?i:mr|mrs|ms|dr|prof|st|jr|sr|vs|etc|cf|e\.g|i\.e))\.$"
)
_LONGEST_ABBREVIATION = 6  # characters, with a character before it and the period


def find_sentences(text: str) -> list[tuple[int, int]]:
    """Return start and end of each sentence of a text, without the spaces around it.

    A sentence ends at a full stop, exclamation mark, question mark or ellipsis that a
    space follows, and at an empty line. A part without letters, such as the number of a
    list, belongs to the next sentence, and at the end of a text to the last one.
    """
    sentences: list[tuple[int, int]] = []
    start = end = 0
    has_letters = False  # from start to end
    for boundary in _BOUNDARY.finditer(text):
        has_letters |= any(map(str.isalpha, text[end : boundary.end()]))
        end = boundary.end()
        before = text[max(0, end - _LONGEST_ABBREVIATION) : end]
        if has_letters and not _ABBREVIATION.search(before):
            sentences.append(_strip(text, start, end))
            start, has_letters = end, False
    has_letters |= any(map(str.isalpha, text[end:]))
    if sentences and not has_letters:
        start, _ = sentences.pop()
    if text[start:].strip():
        sentences.append(_strip(text, start, len(text)))
    return sentences


def sentence_spans(text: Text) -> list[Span]:
    """Return segment, start and end of each sentence; one empty span without any."""
    return [
        (segment, start, end)
        for segment, side in enumerate(split_pair(text))
        for start, end in find_sentences(side)
    ] or [(0, 0, 0)]


def sentences_of_words(sentences: Sequence[Span], words: Sequence[Span]) -> list[int]:
    """Return the position of each word's sentence: the last one that starts before."""
    starts = [(segment, start) for segment, start, _ in sentences]
    positions = (bisect_right(starts, (segment, start)) for segment, start, _ in words)
    return [max(0, position - 1) for position in positions]


def sum_by_sentence(values: np.ndarray, ids: np.ndarray, n: int) -> np.ndarray:
    """Sum rows of tokens (T, H), in the order of sentences, to n sentences (n, H)."""
    sums = np.zeros((n, values.shape[1]))
    present, first = np.unique(ids, return_index=True)
    sums[present] = np.add.reduceat(values, first)
    return sums


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return start, start + len(part.strip())
