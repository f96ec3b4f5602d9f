"""Sentences of words, as str: words and their characters are known from the str alone.

The words of a sentence are joined by single spaces. A space inside a word, and a word
without characters, are written as no-break spaces, so that the words can be found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

_NO_BREAK_SPACE = "\xa0"


class Sentence(str):
    """A sentence, each word of which is predicted."""

    @classmethod
    def of(cls, words: Iterable[str]) -> Sentence:
        """Join words."""
        return cls(
            " ".join(w.replace(" ", _NO_BREAK_SPACE) or _NO_BREAK_SPACE for w in words)
        )

    @property
    def words(self) -> list[str]:
        """The words."""
        return self.split(" ") if self else []

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Start and end of each word, in characters."""
        words = self.words
        starts = accumulate((len(word) + 1 for word in words[:-1]), initial=0)
        return [
            (start, start + len(word))
            for start, word in zip(starts, words, strict=False)
        ]

    @property
    def n_predicted(self) -> int:
        """How many of the words are predicted: all."""
        return len(self.words)

    @property
    def marked_words(self) -> list[MarkedWord]:
        """Each predicted word, marked."""
        return [MarkedWord(self, i) for i in range(len(self.words))]


class MarkedWord(Sentence):
    """A word in its sentence: a `str`, the sentence, with one of its words marked.

    Two are equal if both sentence and position are; none equals a plain `str`.

    Parameters
    ----------
    sentence : str
        The words, joined by single spaces.
    position : int
        Position of the marked word among them.

    Attributes
    ----------
    position : int
    """

    __module__ = "skprotolm"

    position: int

    def __new__(cls, sentence: str, position: int) -> MarkedWord:
        self = super().__new__(cls, sentence)
        self.position = position
        return self

    def __getnewargs__(self) -> tuple[str, int]:  # type: ignore[override]
        return str(self), self.position

    @property
    def span(self) -> tuple[int, int]:
        """Start and end of the marked word, in characters of the sentence."""
        return self.spans[self.position]

    @property
    def word(self) -> str:
        """The marked word."""
        return self.words[self.position]

    @property
    def n_predicted(self) -> int:
        """How many of the words are predicted: the marked one."""
        return 1

    @property
    def marked_words(self) -> list[MarkedWord]:
        """The marked word itself."""
        return [self]

    def marked(self) -> str:
        """Return the sentence with marks around the word."""
        start, end = self.span
        text = str(self)
        return f"{text[:start]}»{text[start:end]}«{text[end:]}"

    def __eq__(self, other: object) -> bool:
        is_same = isinstance(other, MarkedWord) and self.position == other.position
        return is_same and str(self) == str(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((str(self), self.position))

    def __repr__(self) -> str:
        return f"MarkedWord({str(self)!r}, {self.position})"


def split_words(
    sentences: Sequence[Sentence], of_words: np.ndarray
) -> list[np.ndarray]:
    """Split an array of all predicted words into those of each sentence."""
    ends = np.cumsum([sentence.n_predicted for sentence in sentences])
    return np.split(of_words, ends[:-1])


def dump_text(text: Any) -> Any:
    """Return a text as plain values: of a marked word, its sentence and position."""
    return [str(text), text.position] if isinstance(text, MarkedWord) else text


def load_text(text: Any) -> Any:
    """Return the text that `dump_text` returned."""
    is_word = isinstance(text, list) and isinstance(text[1], int)
    return MarkedWord(*text) if is_word else text
