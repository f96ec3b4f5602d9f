"""Tokens of words: which tokens of a sentence are pooled to the vector of each word.

Letters: T tokens of a sentence, P pieces of its words.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import NamedTuple

import numpy as np

from skprotolm._data.words import Sentence


class WordTokens(NamedTuple):
    """The pieces of the words of a sentence: pairs of a token and a word."""

    tokens: np.ndarray  # (P,), positions in the sentence's tokens
    words: np.ndarray  # (P,), ascending: each word has at least one token

    def of(self, word: int) -> np.ndarray:
        """Return the tokens of one word."""
        return self.tokens[self.words == word]


def find_word_tokens(
    sentence: Sentence, offsets: np.ndarray, content_mask: np.ndarray
) -> WordTokens:
    """Find the tokens of each word.

    A token that covers several words is a piece of each. A word without tokens, such as
    an invisible character, is read from the tokens that belong to no word: the special
    ones, or all tokens if the tokenizer adds none.

    Parameters
    ----------
    sentence : Sentence
    offsets : ndarray of shape (T, 2)
        Characters of each token.
    content_mask : ndarray of shape (T,), bool
    """
    spans = sentence.spans
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    pieces: list[list[int]] = [[] for _ in spans]
    for t in np.flatnonzero(content_mask).tolist() if spans else ():
        start, end = offsets[t].tolist()
        covered = sentence[start:end]
        # The space before a word is often part of its first token.
        start += len(covered) - len(covered.lstrip(" "))
        first = min(bisect_left(ends, start + 1), len(spans) - 1)
        last = max(bisect_right(starts, end - 1) - 1, first)
        for word in range(first, last + 1):
            pieces[word].append(t)
    others = np.flatnonzero(~content_mask)
    instead = (others if others.size else np.arange(len(content_mask))).tolist()
    listed = [of_word or instead for of_word in pieces]
    return WordTokens(
        np.array([t for of_word in listed for t in of_word], dtype=np.int64),
        np.repeat(np.arange(len(listed)), list(map(len, listed))),
    )
