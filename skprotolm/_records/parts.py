"""Parts of an explanation: prototypes, their contributions, alignments of words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from sklearn.metrics.pairwise import cosine_similarity

from skprotolm._data.texts import Text

_ROUNDING = 1e-9  # of the sum of absolute values


class PrototypeTexts(NamedTuple):
    """The columns of `Prototypes` that explanations show and store."""

    labels: np.ndarray  # (M,)
    texts: tuple[Text, ...]
    names: tuple[str, ...]
    unread: tuple[tuple[str, ...], ...]


class Compared(Protocol):
    """How a text compares with all prototypes."""

    @property
    def similarities(self) -> np.ndarray:
        """The similarity to each prototype, (M,)."""
        ...

    @property
    def ranking(self) -> np.ndarray:
        """The contribution, or share, of each prototype, (M,)."""
        ...


class StoredArrays(NamedTuple):
    """The arrays of an explanation that was stored or copied."""

    similarities: np.ndarray
    ranking: np.ndarray


class NoSplitError(ValueError):
    """A similarity cannot be split over tokens."""


class TokenSplitter(Protocol):
    """The part of a fitted model that splits similarities over tokens."""

    def token_similarities(self, text: Text) -> np.ndarray:
        """Split the similarities to all prototypes over the tokens, (T, M)."""
        ...

    def token_parts(self, text: Text) -> np.ndarray:
        """Return the parts of the unit text vector that belong to tokens, (T, H)."""
        ...

    def prototype_parts(self, index: int) -> np.ndarray:
        """Return the same of a prototype's text, (U, H)."""
        ...

    def prototype_tokens(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return segments, offsets and unread flags of a prototype's U tokens."""
        ...


@dataclass(frozen=True)
class Contribution:
    """The contribution of one prototype to a prediction.

    Attributes
    ----------
    index : int
        Position of the prototype in ``prototypes_``.
    name : str
        Name of the prototype; see `Prototype`.
    label : object
        Class of the prototype.
    text : str or (str, str)
        Training text of the prototype.
    unread : tuple of str
        Words of that text that the tokenizer cannot read.
    similarity : float
        Cosine to the explained text; 1/(distance + ε) under "proto-lm".
    contribution : float
        Share of the probabilities; under "proto-lm", part of the target's score.
    """

    index: int
    name: str
    label: Any
    text: Text
    unread: tuple[str, ...]
    similarity: float
    contribution: float

    def row(self, e: Any) -> dict[str, Any]:
        """Return the columns of a data frame of explanations."""
        return {
            "prototype": self.index,
            "prototype_name": self.name,
            "prototype_label": self.label,
            "prototype_text": self.text,
            "prototype_unread": self.unread,
            "of_target": self.label == e.target,
            "similarity": self.similarity,
            "contribution": self.contribution,
        }


class QuotedWords(NamedTuple):
    """The V words of a prototype's text, which has U tokens."""

    prototype: int
    words: tuple[str, ...]
    offsets: np.ndarray  # (V, 3)
    unread: np.ndarray  # (V,)
    word_ids: np.ndarray  # (U,)


@dataclass(frozen=True, eq=False)
class _Alignment:
    """How two texts match, by their words or by their sentences."""

    matrix: np.ndarray
    correlation: np.ndarray

    @property
    def excess(self) -> np.ndarray:
        """(W, V), float64: what is specific to each pair of words, or of sentences.

        The vectors of all tokens share a large common part, so that `matrix` is nearly
        the outer product of its row and column sums, divided by its sum, the cosine:
        every word matches the same few words best. The excess is the matrix minus this
        outer product. It sums to 0. If the cosine is 0, there is no outer product, and
        the excess is the matrix itself.
        """
        total = self.matrix.sum()
        if abs(total) <= _ROUNDING * np.abs(self.matrix).sum():
            return self.matrix.copy()
        rows, columns = self.matrix.sum(axis=1), self.matrix.sum(axis=0)
        return self.matrix - np.outer(rows, columns) / total


@dataclass(frozen=True, eq=False)
class WordAlignment(_Alignment):
    """Which words of a text match which words of a prototype's text.

    Attributes
    ----------
    matrix : ndarray of shape (W, V), float64
        How much the match of each word of the explained text with each word of the
        prototype's text adds to their cosine.
    correlation : ndarray of shape (W, V), float64
        How alike what is specific to each of both words is, from −1 to 1: the cosine of
        their vectors without the part that all words of a text have in common. `excess`
        is the correlation times the lengths of both vectors, so that both have the same
        signs: the excess is large where words also count, and the correlation tells
        which word of the other text matches a word best.
    words : tuple of str, length V
        The words of the prototype's text.
    offsets : ndarray of shape (V, 3), int64
        Segment, start and end of each word, in characters of the prototype's text.
    unread : ndarray of shape (V,), bool
        Whether the tokenizer cannot read the word.
    """

    __module__ = "skprotolm"

    words: tuple[str, ...]
    offsets: np.ndarray
    unread: np.ndarray


@dataclass(frozen=True, eq=False)
class SentenceAlignment(_Alignment):
    """Which sentences of a text match which sentences of a prototype's text.

    Attributes
    ----------
    matrix : ndarray of shape (S, R), float64
        How much the match of each sentence of the explained text with each sentence of
        the prototype's text adds to their cosine.
    correlation : ndarray of shape (S, R), float64
        As in `WordAlignment`, of sentences.
    sentences : tuple of str, length R
        The sentences of the prototype's text.
    offsets : ndarray of shape (R, 3), int64
        Segment, start and end of each of these sentences.
    """

    __module__ = "skprotolm"

    sentences: tuple[str, ...]
    offsets: np.ndarray


def align(
    rows: np.ndarray,
    columns: np.ndarray,
    text: np.ndarray | None = None,
    other: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return matrix, excess and correlation of an alignment, all (W, V).

    Parameters
    ----------
    rows, columns : ndarray of shape (W, H), ndarray of shape (V, H)
        The parts of both unit text vectors that belong to words, or to sentences.
    text, other : ndarray of shape (H,), default=None
        The sums over all rows and columns of both texts, if these are only some.
    """
    matrix = rows @ columns.T
    text = rows.sum(axis=0) if text is None else text
    other = columns.sum(axis=0) if other is None else other
    total = text @ other
    if abs(total) > _ROUNDING * np.abs(matrix).sum():
        # The products of what is left are the excess.
        rows, columns = (
            rows - np.outer(rows @ other, text) / total,
            columns - np.outer(columns @ text, other) / total,
        )
    return matrix, rows @ columns.T, cosine_similarity(rows, columns)


def as_list(values: np.ndarray | None) -> list[Any] | None:
    """Return an array as a list, and None as it is."""
    return None if values is None else values.tolist()


def check_index(index: Any, M: int) -> int:
    """Return the position of one of M prototypes as an int.

    Raises
    ------
    IndexError, TypeError
        If `index` is not an int, or out of range.
    """
    if not isinstance(index, (int, np.integer)) or isinstance(index, bool):
        raise TypeError(
            f"index must be a position in prototypes_, an int from 0 to {M - 1}, "
            f"got {index!r}."
        )
    if not 0 <= index < M:
        raise IndexError(
            f"There is no prototype {index}: positions in prototypes_ are 0 to {M - 1}."
        )
    return int(index)
