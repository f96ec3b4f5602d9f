"""What the explanations of all kinds of targets have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np

from skprotolm._data.texts import Text
from skprotolm._display.folding import MAX_SENTENCES
from skprotolm._display.html import explanations_html
from skprotolm._display.tables import as_frame
from skprotolm._records.json import dump_explanations
from skprotolm._records.matching import (
    Matches,
    TextParts,
    every_pair,
    pairs_by_sentence,
)
from skprotolm._records.pages import PageMixin
from skprotolm._records.parts import (
    NoSplitError,
    PrototypeTexts,
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
from skprotolm._records.views import frame_rows, listed_record, to_dict
from skprotolm._records.words import merge_tokens, split_pair, sum_by_word
from skprotolm._tasks.units import Unit

_Self = TypeVar("_Self", bound="BaseExplanation")


@dataclass(frozen=True, eq=False, repr=False)
class BaseExplanation(PageMixin, ScoredText):
    """The explanation of one output: the part that is the same for all targets.

    `Explanation` and `ValueExplanation` describe the fields.
    """

    kind: ClassVar[str]  # in JSON, and of the views

    prediction: Any
    base_value: float
    similarities: np.ndarray
    novelty: float
    novelty_limit: float | None
    attention: np.ndarray
    token_method: str | None
    top_k: int | None
    _prototypes: PrototypeTexts
    # Splits are computed on demand, since token vectors would fill the memory.
    _splitter: TokenSplitter | None = field(default=None)

    @property
    @abstractmethod
    def unit(self) -> Unit:
        """The unit of the explanation."""

    @property
    @abstractmethod
    def explained(self) -> float:
        """What `base_value` and the token scores sum to."""

    @property
    @abstractmethod
    def ranking(self) -> np.ndarray:
        """(M,): by which prototypes are sorted, the largest first."""

    @property
    def prototype_texts(self) -> tuple[Text, ...]:
        """The training text of each prototype."""
        return self._prototypes.texts

    @property
    def prototype_names(self) -> tuple[str, ...]:
        """The name of each prototype."""
        return self._prototypes.names

    @property
    def prototype_unread(self) -> tuple[tuple[str, ...], ...]:
        """The words of each prototype's text that the tokenizer cannot read."""
        return self._prototypes.unread

    @property
    def nearest_similarity(self) -> float:
        """The largest of the similarities."""
        return float(self.similarities.max())

    @property
    def is_unlike(self) -> bool:
        """Whether the text is unlike the training texts: `novelty` is above its limit.

        Its prototypes are then the nearest ones, but not similar.
        """
        return self.novelty_limit is not None and self.novelty > self.novelty_limit

    @property
    def order(self) -> np.ndarray:
        """(M,): the prototypes, in descending order of `ranking`."""
        return np.argsort(-self.ranking, kind="stable")

    @property
    def _roles(self) -> np.ndarray:
        """(M,) str: what each prototype speaks for, "target", "against" or "other"."""
        return np.full(len(self.similarities), "target")

    @property
    def _reads_like(self) -> np.ndarray:
        """(M,) bool: which prototypes' texts the text reads like.

        It reads like a prototype unless it would be unlike the training texts if its
        nearest prototype were as dissimilar as this one. Novelty is on the scale of
        cosines; under "proto-lm" there is no such difference between prototypes.
        """
        if self.novelty_limit is None or not self.unit.has_token_sums:
            return np.full(len(self.similarities), not self.is_unlike)
        gaps = self.nearest_similarity - self.similarities
        return self.novelty + gaps <= self.novelty_limit

    def _listed(self, n: int) -> np.ndarray:
        """Return which prototypes a page lists, in the order of `order`."""
        return self.order[: self.top_k or n]

    @abstractmethod
    def _label_name(self, index: int) -> str:
        """Return what views call the label or value of a prototype."""

    @abstractmethod
    def _contribution_of(self, index: int) -> Any:
        """Return the record of a prototype's contribution."""

    def _contributions_of(self, indices: np.ndarray) -> list[Any]:
        """Return the records of some prototypes' contributions."""
        return [self._contribution_of(j) for j in indices.tolist()]

    def _quote_of(self, index: int) -> dict[str, Any]:
        """Return what the contributions of all kinds hold of a prototype."""
        return {
            "index": index,
            "name": self.prototype_names[index],
            "text": self.prototype_texts[index],
            "unread": self.prototype_unread[index],
            "similarity": float(self.similarities[index]),
        }

    @abstractmethod
    def _sum_of(self, indices: np.ndarray) -> dict[str, float]:
        """Return the sums of some prototypes' contributions."""

    @abstractmethod
    def _kind_dict(self) -> dict[str, Any]:
        """Return what `to_dict` has only for this kind."""

    @abstractmethod
    def _kind_row(self) -> dict[str, Any]:
        """Return what the rows of `to_frame` have only for this kind."""

    @abstractmethod
    def _kind_json(self, labels: Callable[[np.ndarray], int]) -> dict[str, Any]:
        """Return what JSON has only for this kind; `labels` stores an array once."""

    @classmethod
    @abstractmethod
    def _from_kind_json(
        cls, entry: dict[str, Any], labels: Sequence[np.ndarray]
    ) -> dict[str, Any]:
        """Return the fields that `_kind_json` wrote."""

    @property
    def remainder(self) -> float:
        """The sum of the contributions that `prototypes` does not list."""
        if self.top_k is None:
            return 0.0
        return self._sum_of(self.order[self.top_k :])["contribution"]

    @property
    def prototypes(self) -> tuple[Any, ...]:
        """At most `top_k` prototypes, in the order of `order`."""
        return tuple(self._contributions_of(self.order[: self.top_k]))

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

    def _explanations(self) -> list[Any]:
        return [self]

    def _fields(self) -> dict[str, Any]:
        """Return the fields that can be stored without the model."""
        names = (f.name for f in fields(self) if f.name != "_splitter")
        return {name: getattr(self, name) for name in names}

    def __getstate__(self) -> dict[str, Any]:
        return {**self._fields(), "_splitter": None}  # pickles leave the model out

    def __copy__(self: _Self) -> _Self:
        return replace(self)

    def __deepcopy__(self: _Self, memo: dict[int, Any]) -> _Self:
        arrays: dict[str, Any] = {
            name: value.copy()
            for name, value in self._fields().items()
            if isinstance(value, np.ndarray)
        }
        return replace(self, **arrays)

    def to_json(self) -> str:
        """Return the explanation as JSON, without loss; see `Explanations.to_json`."""
        return dump_explanations([self])

    def to_dict(self, *, n_alignments: int = 0) -> dict[str, Any]:
        """Return the explanation as plain Python objects.

        Labels and probabilities are parallel lists, so that labels keep their types.

        Parameters
        ----------
        n_alignments : int, default=0
            Number of first listed prototypes whose `word_alignment` is added under
            "alignments", if it is available. Each costs one pass through the encoder.

        Raises
        ------
        ValueError
            If `n_alignments` is not a nonnegative int.
        """
        return to_dict(self, n_alignments)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with one row per listed prototype."""
        return as_frame(frame_rows([self]))

    def __str__(self) -> str:
        return self.to_text()

    @abstractmethod
    def to_text(self, *, color: bool = False) -> str:
        """Return the explanation as lines of text."""

    def _repr_html_(self) -> str:
        return explanations_html([listed_record(self)], page=False)
