"""A text with scores: by tokens, words and sentences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skprotolm._data.texts import Text
from skprotolm._records.sentences import sentence_spans, sentences_of_words
from skprotolm._records.words import (
    Span,
    merge_tokens,
    split_pair,
    unread_spans,
)


@dataclass(frozen=True, eq=False, repr=False)
class ScoredText:
    """A text and its content tokens, and their scores by words and sentences.

    `Explanation` describes the fields.
    """

    text: Text
    tokens: tuple[str, ...]
    offsets: np.ndarray
    segments: np.ndarray
    token_scores: np.ndarray | None
    token_unread: np.ndarray

    @cached_property
    def _words(self) -> tuple[list[Span], np.ndarray]:
        return merge_tokens(self.text, self.segments, self.offsets)

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the text; for a pair, the words of both texts in sequence."""
        spans, word_ids = self._words
        texts = split_pair(self.text)
        first_tokens = np.unique(word_ids, return_index=True)[1].tolist()
        return tuple(
            texts[segment][start:end] if end > start else self.tokens[t]
            for (segment, start, end), t in zip(spans, first_tokens, strict=True)
        )

    @property
    def word_ids(self) -> np.ndarray:
        """(T,): the position in `words` of each token's word."""
        return self._words[1]

    @property
    def word_offsets(self) -> np.ndarray:
        """(W, 3): segment, start and end of each word, in characters of its text."""
        return np.array(self._words[0], dtype=np.int64).reshape(-1, 3)

    @property
    def word_scores(self) -> np.ndarray | None:
        """The sum of the token scores per word, in the order of `words`."""
        if self.token_scores is None:
            return None
        return np.bincount(self.word_ids, self.token_scores)

    @property
    def word_unread(self) -> np.ndarray:
        """(W,): whether the tokenizer cannot read a word, in the order of `words`."""
        return np.bincount(self.word_ids, self.token_unread) > 0

    @property
    def unread_spans(self) -> list[Span]:
        """Segment, start and end of the parts that are cut off a text too long."""
        return unread_spans(self.text, self._words[0])

    @property
    def read_fraction(self) -> float:
        """The share of the text's characters before it is cut off; 1 if it is not."""
        texts = split_pair(self.text)
        # Tokenizers drop some characters without letters, such as zero-width spaces.
        n_unread = sum(
            end - start
            for segment, start, end in self.unread_spans
            if any(map(str.isalnum, texts[segment][start:end]))
        )
        return 1 - n_unread / max(sum(map(len, texts)), 1)

    @cached_property
    def _sentences(self) -> list[Span]:
        return sentence_spans(self.text)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The sentences of the text; for a pair, those of both texts in sequence.

        They are found by punctuation. A text without letters is one sentence.
        """
        texts = split_pair(self.text)
        spans = self._sentences
        return tuple(texts[segment][start:end] for segment, start, end in spans)

    @property
    def sentence_offsets(self) -> np.ndarray:
        """(S, 3): segment, start and end of each sentence, in characters."""
        return np.array(self._sentences, dtype=np.int64)

    @property
    def sentence_ids(self) -> np.ndarray:
        """(W,): the position in `sentences` of each word's sentence."""
        ids = sentences_of_words(self._sentences, self._words[0])
        return np.array(ids, dtype=np.int64)

    @property
    def sentence_scores(self) -> np.ndarray | None:
        """The sum of the word scores per sentence, 0 if it is not read."""
        if self.word_scores is None:
            return None
        n_sentences = len(self._sentences)
        return np.bincount(self.sentence_ids, self.word_scores, minlength=n_sentences)
