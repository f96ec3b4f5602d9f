"""How a text and the text of a prototype match: by tokens, words and sentences."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property

import numpy as np

from skprotolm._data.texts import Text
from skprotolm._display.folding import MAX_SENTENCES
from skprotolm._records.matching import (
    Matches,
    TextParts,
    every_pair,
    pairs_by_sentence,
)
from skprotolm._records.parts import (
    NoSplitError,
    QuotedWords,
    SentenceAlignment,
    TokenSplitter,
    WordAlignment,
    align,
    check_index,
)
from skprotolm._records.scored_text import ScoredText
from skprotolm._records.sentences import (
    sentence_spans,
    sentences_of_words,
    sum_by_sentence,
)
from skprotolm._records.words import merge_tokens, split_pair, sum_by_word
from skprotolm._tasks.units import Unit


class AlignmentMixin(ScoredText):
    """Splits the cosine to a prototype over pairs of parts of both texts."""

    _splitter: TokenSplitter | None

    @property
    @abstractmethod
    def unit(self) -> Unit:
        """The unit of the explanation."""

    @property
    @abstractmethod
    def prototype_texts(self) -> tuple[Text, ...]:
        """The training text of each prototype."""

    @cached_property
    def token_similarities(self) -> np.ndarray:
        """(T, M): the part of each prototype's cosine that belongs to each token.

        The first access runs one forward pass over the text.
        """
        return self._require_splitter().token_similarities(self.text)

    def alignment(self, index: int) -> np.ndarray:
        """Split the cosine to a prototype over pairs of tokens.

        Parameters
        ----------
        index : int
            Position of the prototype in ``prototypes_``.

        Returns
        -------
        ndarray of shape (T, U), float64
            How much the match of each token of this text with each of the U content
            tokens of the prototype's text adds to their cosine.

        Raises
        ------
        ValueError
            If the prototypes are not texts (``projection=False``), or the
            formulation is not "mixture".
        IndexError, TypeError
            If `index` is not an int, or out of range.
        """
        splitter = self._require_splitter()
        j = check_index(index, len(self.prototype_texts))
        return splitter.token_parts(self.text) @ splitter.prototype_parts(j).T

    def word_alignment(self, index: int) -> WordAlignment:
        """Split the cosine to a prototype over pairs of words.

        Parameters
        ----------
        index : int
            Position of the prototype in ``prototypes_``.

        Returns
        -------
        WordAlignment
            Matrices (W, V), and the V words of the prototype's text.

        Raises
        ------
        ValueError, IndexError, TypeError
            As in `alignment`.
        """
        splitter = self._require_splitter()
        quoted = self._quoted_words(index)
        matrix, _, correlation = align(
            sum_by_word(splitter.token_parts(self.text), self.word_ids),
            sum_by_word(splitter.prototype_parts(quoted.prototype), quoted.word_ids),
        )
        return WordAlignment(
            matrix, correlation, quoted.words, quoted.offsets, quoted.unread
        )

    def _quoted_words(self, index: int) -> QuotedWords:
        """Return the words of a prototype's text."""
        j = check_index(index, len(self.prototype_texts))
        segments, offsets, unread = self._require_splitter().prototype_tokens(j)
        text = self.prototype_texts[j]
        spans, word_ids = merge_tokens(text, segments, offsets)
        texts = split_pair(text)
        return QuotedWords(
            j,
            tuple(texts[segment][start:end] for segment, start, end in spans),
            np.array(spans).reshape(-1, 3),
            np.bincount(word_ids, unread) > 0,
            word_ids,
        )

    def sentence_alignment(self, index: int) -> SentenceAlignment:
        """Split the cosine to a prototype over pairs of sentences.

        Each entry is the sum over the words of two sentences. For long texts the
        matrix is much smaller than that of `word_alignment`.

        Parameters
        ----------
        index : int
            Position of the prototype in ``prototypes_``.

        Returns
        -------
        SentenceAlignment
            Matrices (S, R), and the R sentences of the prototype's text.

        Raises
        ------
        ValueError, IndexError, TypeError
            As in `alignment`.
        """
        splitter = self._require_splitter()
        quoted = self._quoted_words(index)
        text = self.prototype_texts[quoted.prototype]
        spans = sentence_spans(text)
        ids = sentences_of_words(spans, quoted.offsets.tolist())
        matrix, _, correlation = align(
            sum_by_sentence(
                splitter.token_parts(self.text),
                self.sentence_ids[self.word_ids],
                len(self._sentences),
            ),
            sum_by_sentence(
                splitter.prototype_parts(quoted.prototype),
                np.array(ids, dtype=np.int64)[quoted.word_ids],
                len(spans),
            ),
        )
        texts = split_pair(text)
        sentences = tuple(texts[segment][start:end] for segment, start, end in spans)
        return SentenceAlignment(matrix, correlation, sentences, np.array(spans))

    def _matches(self, index: int) -> tuple[QuotedWords, Matches]:
        """Return which words match those of a prototype's text.

        Of a long text, these are the words of pairs of sentences that match.
        """
        quoted = self._quoted_words(index)
        if len(self.sentences) <= MAX_SENTENCES:
            alignment = self.word_alignment(index)
            return quoted, every_pair(alignment.excess, alignment.correlation)
        splitter = self._require_splitter()
        sentences = self.sentence_alignment(index)
        ids = sentences_of_words(sentences.offsets.tolist(), quoted.offsets.tolist())
        of_quoted = np.array(ids, dtype=np.int64)
        return quoted, pairs_by_sentence(
            sentences.excess,
            TextParts(
                splitter.token_parts(self.text), self.word_ids, self.sentence_ids
            ),
            TextParts(
                splitter.prototype_parts(quoted.prototype), quoted.word_ids, of_quoted
            ),
        )

    def _require_splitter(self) -> TokenSplitter:
        if not self.unit.has_token_sums:
            raise NoSplitError(
                'formulation="proto-lm" has no exact split over tokens: its '
                "similarity is 1/(distance + ε), not a sum."
            )
        if self._splitter is None:
            raise NoSplitError(
                "This explanation was stored without its model; explain the text again "
                "to split similarities over tokens."
            )
        return self._splitter
