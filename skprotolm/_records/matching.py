"""Pairs of words that match: of short texts all, of long texts sentence by sentence.

Letters: T tokens, H hidden size, W words of the explained text, V of a quoted one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skprotolm._records.parts import align
from skprotolm._records.words import sum_by_word

_SENTENCE_PAIRS = 12  # of long texts whose words are compared, at most


class Matches(NamedTuple):
    """Pairs of words, with what is specific to them; see `WordAlignment`."""

    rows: np.ndarray  # (P,), words of the explained text
    columns: np.ndarray  # (P,), words of the quoted text
    excess: np.ndarray  # (P,)
    correlation: np.ndarray  # (P,)


class TextParts(NamedTuple):
    """The parts of a unit text vector that belong to its tokens."""

    parts: np.ndarray  # (T, H)
    word_ids: np.ndarray  # (T,)
    sentence_ids: np.ndarray  # (W,)

    def words_of(self, sentence: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the words of a sentence, and the parts that belong to them."""
        words = np.flatnonzero(self.sentence_ids == sentence)
        tokens = np.flatnonzero(np.isin(self.word_ids, words))
        return words, sum_by_word(self.parts[tokens], self.word_ids[tokens])


def every_pair(excess: np.ndarray, correlation: np.ndarray) -> Matches:
    """Return all pairs of words from their matrices (W, V)."""
    rows, columns = np.indices(excess.shape).reshape(2, -1)
    return Matches(rows, columns, excess.ravel(), correlation.ravel())


def pairs_by_sentence(
    excess: np.ndarray, text: TextParts, quoted: TextParts
) -> Matches:
    """Return the pairs of words in the pairs of sentences that match best.

    Parameters
    ----------
    excess : ndarray of shape (S, R)
        Of sentences.
    text, quoted : TextParts
    """
    order = np.argsort(-excess, axis=None, kind="stable")[:_SENTENCE_PAIRS]
    sums = text.parts.sum(axis=0), quoted.parts.sum(axis=0)
    found = [Matches(*(np.zeros(0, d) for d in (int, int, float, float)))]
    for a, b in zip(*np.unravel_index(order, excess.shape), strict=True):
        if excess[a, b] > 0:
            rows, row_parts = text.words_of(a)
            columns, column_parts = quoted.words_of(b)
            _, specific, correlation = align(row_parts, column_parts, *sums)
            pairs = every_pair(specific, correlation)
            found.append(
                pairs._replace(rows=rows[pairs.rows], columns=columns[pairs.columns])
            )
    return Matches(*map(np.concatenate, zip(*found, strict=True)))
