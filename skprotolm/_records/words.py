"""Words of a text: token offsets to words, and editing a text word by word.

A span is (segment, start, end): `segment` is 0, or 1 for the second text of a pair, and
`start` and `end` count the characters of that text.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from skprotolm._data.texts import Text
from skprotolm._data.words import Sentence

Span = tuple[int, int, int]

# Chinese and Japanese use no spaces, so that each ideograph and each kana, without the
# two combining kana marks, is a run of its own.
_IDEOGRAPHS = (
    "\u3040-\u3098\u309b-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
# So is each letter of Thai, Lao, Burmese and Khmer, without their combining marks. The
# tokens of the encoder join these runs.
_UNSPACED = _IDEOGRAPHS + (
    "\u0e01-\u0e30\u0e32\u0e33\u0e3f-\u0e46\u0e4f-\u0e5b"
    "\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6\u0ed0-\u0edf"
    "\u1000-\u102a\u103f-\u1055\u1780-\u17b3\u17d4-\u17dc\u17e0-\u17e9"
)
_MARKS = ("Mn", "Mc", "Me", "Cf")
_RUN = re.compile(f"[{_UNSPACED}]|[^\\s{_UNSPACED}]+")
_WHOLE_RUN = re.compile(f"[{_IDEOGRAPHS}]|[^\\s{_IDEOGRAPHS}]+")


def split_pair(text: Text) -> tuple[str, ...]:
    """Return a tuple of one text, or of the two texts of a pair."""
    return (text,) if isinstance(text, str) else text


def find_words(text: str, *, whole_runs: bool = False) -> list[tuple[int, int]]:
    """Return start and end of each word of a text.

    With `whole_runs`, letters of Thai, Lao, Burmese and Khmer are not words alone.

    A run between spaces is cut into the punctuation before its first letter or number,
    the part up to its last one, and the punctuation after it: "(don't!)" is three
    words. Accents, vowel signs and joiners belong to the character before them. In a
    run without letters and numbers, emoji count as letters; one without these, too,
    such as ":-)", is one word.
    """
    words: list[tuple[int, int]] = []
    for run in (_WHOLE_RUN if whole_runs else _RUN).finditer(text):
        start, end = run.span()
        if words and words[-1][1] == start:
            start = _skip_marks(text, start, end)
            words[-1] = (words[-1][0], start)
        words += _cut_run(text, start, end)
    return words


def _cut_run(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Cut a run into leading punctuation, letters and numbers, trailing punctuation."""
    # The categories L* and N*.
    letters = [i for i in range(start, end) if text[i].isalnum()]
    letters = letters or [i for i in range(start, end) if _is_symbol(text[i])]
    if not letters:
        return [(start, end)] if start < end else []
    first, last = letters[0], _skip_marks(text, letters[-1] + 1, end)
    if _skip_marks(text, start, first) == first:  # invisible, such as a direction mark
        first = start
    return [(a, b) for a, b in pairwise((start, first, last, end)) if a < b]


def _is_symbol(character: str) -> bool:
    """Return whether a character is an emoji, or the skin tone of one."""
    is_skin_tone = "\U0001f3fb" <= character <= "\U0001f3ff"
    return is_skin_tone or unicodedata.category(character) == "So"


def _skip_marks(text: str, start: int, end: int) -> int:
    """Return the position after the combining and format characters from `start` on."""
    while start < end and unicodedata.category(text[start]) in _MARKS:
        start += 1
    return start


def merge_tokens(
    text: Text, segments: np.ndarray, offsets: np.ndarray
) -> tuple[list[Span], np.ndarray]:
    """Merge tokens into words.

    A token that covers several words joins them, and tokens that overlap, such as the
    bytes of a character, are one word. A special token is a word with an empty span.

    Parameters
    ----------
    text : str or (str, str)
    segments : ndarray of shape (T,)
        Segment of each token.
    offsets : ndarray of shape (T, 2)
        Start and end of each token.

    Returns
    -------
    spans : list of (segment, start, end), length W
    word_ids : ndarray of shape (T,), int64
        Position of each token's word in `spans`.
    """
    texts = split_pair(text)
    words_of_texts = [
        t.spans if isinstance(t, Sentence) else find_words(t) for t in texts
    ]
    spans: list[Span] = []
    word_ids = np.empty(len(segments), dtype=np.int64)
    for t, (segment, (start, end)) in enumerate(
        zip(segments.tolist(), offsets.tolist(), strict=True)
    ):
        words = _overlapping_words(texts[segment], words_of_texts[segment], start, end)
        span = (segment, words[0][0], words[-1][1]) if words else (segment, start, end)
        is_joined = spans and spans[-1][0] == segment and spans[-1][2] > span[1]
        if is_joined and span[2] > span[1]:
            spans[-1] = (segment, spans[-1][1], max(spans[-1][2], span[2]))
        else:
            spans.append(span)
        word_ids[t] = len(spans) - 1
    return spans, word_ids


def _overlapping_words(
    text: str, words: list[tuple[int, int]], start: int, end: int
) -> list[tuple[int, int]]:
    """Return the words that a token overlaps; for a token of spaces, the next word."""
    is_blank = not text[start:end].strip()
    limit = len(text) if is_blank and end > start else end
    first = bisect_right(words, start, key=lambda word: word[1])
    last = bisect_left(words, limit, key=lambda word: word[0])
    return words[first : min(last, first + 1) if is_blank else last]


def words_of_tokens(
    text: Text, segments: np.ndarray, offsets: np.ndarray
) -> tuple[str, ...]:
    """Return the words that contain the given tokens."""
    spans, _ = merge_tokens(text, segments, offsets)
    texts = split_pair(text)
    return tuple(texts[segment][start:end] for segment, start, end in spans)


def sum_by_word(values: np.ndarray, word_ids: np.ndarray) -> np.ndarray:
    """Sum rows of tokens (T, H) to rows of words (W, H)."""
    return np.add.reduceat(values, np.unique(word_ids, return_index=True)[1])


def replace_words(
    text: Text,
    spans: Iterable[Sequence[int]],
    replacement: str = "",
    *,
    deleted: Iterable[Sequence[int]] = (),
) -> Text:
    """Replace words of a text.

    Parameters
    ----------
    text : str or (str, str)
    spans : iterable of (segment, start, end)
        The words, without overlap.
    replacement : str, default=""
        The string that replaces each word. The empty string deletes the words.
    deleted : iterable of (segment, start, end)
        Further spans, which are deleted.
    """
    texts = list(split_pair(text))
    edits: list[Any] = [(*span, replacement) for span in spans]
    edits += [(*span, "") for span in deleted]
    # From the end, so that the remaining offsets stay valid.
    for segment, start, end, new in sorted(edits, reverse=True):
        if end > start:  # special tokens have empty spans
            texts[segment] = texts[segment][:start] + new + texts[segment][end:]
    return texts[0] if isinstance(text, str) else (texts[0], texts[1])


def unread_spans(text: Text, spans: Iterable[Sequence[int]]) -> list[Span]:
    """Find the parts of a text that are cut off because the text is too long.

    If words are deleted from a text, the encoder would read these parts, so that they
    must be deleted too.

    Parameters
    ----------
    text : str or (str, str)
    spans : iterable of (segment, start, end)
        The words that the encoder reads.

    Returns
    -------
    list of (segment, start, end)
    """
    unread: list[Span] = []
    read = [tuple(span) for span in spans if span[2] > span[1]]
    for segment, whole in enumerate(split_pair(text)):
        starts_ends = [(start, end) for s, start, end in read if s == segment]
        first = min((start for start, _ in starts_ends), default=0)
        last = max((end for _, end in starts_ends), default=0)
        # Some tokenizers truncate on the left, so that the unread part comes first.
        outside = [(segment, 0, first), (segment, last, len(whole))]
        unread += [span for span in outside if whole[span[1] : span[2]].strip()]
    return unread
