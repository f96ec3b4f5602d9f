"""The explanation of the tag of a word, as a frozen record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skprotolm._display.formatting import compared, one_line, percent, shorten
from skprotolm._records.explanation import Explanation


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class WordExplanation(Explanation):
    """The explanation of the tag of a word in its sentence, in exact sums.

    It has everything that an `Explanation` has: labels are tags, and ``text`` is a
    `MarkedWord`, a `str` with the sentence and a mark at the word. Its tokens are those
    of the sentence; the weights of ``attention`` are 0 for tokens that are not of the
    word.

    Attributes
    ----------
    sentence : int
        Row of the sentence in X.
    position : int
        Position of the word in the sentence.
    word : str
        The word.
    """

    __module__ = "skprotolm"

    kind = "tags"

    sentence: int

    @property
    def position(self) -> int:
        """Position of the word in the sentence."""
        text: Any = self.text
        return text.position

    @property
    def word(self) -> str:
        """The word."""
        text: Any = self.text
        return text.word

    def _kind_dict(self) -> dict[str, Any]:
        where = {"sentence": self.sentence, "position": self.position}
        return {**where, "word": self.word, **super()._kind_dict()}

    def _kind_row(self) -> dict[str, Any]:
        where = {"sentence": self.sentence, "position": self.position}
        return {**where, "word": self.word, **super()._kind_row()}

    def _kind_json(self, labels: Callable[[np.ndarray], int]) -> dict[str, Any]:
        return {**super()._kind_json(labels), "sentence": self.sentence}

    @classmethod
    def _from_kind_json(
        cls, entry: dict[str, Any], labels: Sequence[np.ndarray]
    ) -> dict[str, Any]:
        fields = super()._from_kind_json(entry, labels)
        return {**fields, "sentence": int(entry["sentence"])}

    def __repr__(self) -> str:
        return one_line(
            f"<WordExplanation of {shorten(self.text, 40)!r}: "
            f"{compared(self.target, self.against, self.unit)} "
            f"{percent(self.probability)}>"
        )
