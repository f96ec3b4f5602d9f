"""Texts cut into words with scores and the characters between the words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from skprotolm._data.words import MarkedWord

STRONGEST_SHARE = 0.1  # of the largest absolute score: weaker words are not marked


class Piece(NamedTuple):
    """A part of a text: a word with its score, or the characters between two words."""

    text: str
    score: float | None
    strength: float  # score, relative to the largest absolute score of the text
    word: int | None = None  # position in the words
    is_unknown: bool = False  # the tokenizer cannot read the word
    is_linked: bool = False  # matches a word of a quoted text

    @property
    def counts(self) -> bool:
        """Whether the score is large enough for the word to be marked."""
        return abs(self.strength) >= STRONGEST_SHARE

    @property
    def is_element(self) -> bool:
        """Whether a page wraps the word in an element."""
        is_marked = self.counts or self.is_unknown or self.is_linked
        return self.word is not None and is_marked

    @property
    def is_cut(self) -> bool:
        """Whether the encoder does not read it because the text is too long."""
        return self.word is None and any(
            letter.isalnum() or letter == "\ufffd" for letter in self.text
        )


def split_explanation(explanation: dict[str, Any]) -> list[Piece]:
    """Cut the text of an explanation into words with scores and gaps.

    The pieces contain the whole text, including parts that are not read. A bar
    separates the texts of a pair. Special tokens, which are not in the text, come last.
    """
    return join_sides(split_sides(explanation))


def split_sides(explanation: dict[str, Any]) -> list[list[Piece]]:
    """Cut the text of an explanation as `split_explanation` does, text by text."""
    words, offsets = explanation["words"], explanation["word_offsets"]
    scores, unread = explanation["word_scores"], explanation["word_unread"]
    if scores:
        return split_text(explanation["text"], words, offsets, scores, unread)
    sides = split_text(explanation["text"], words, offsets, [0.0] * len(words), unread)
    special = {w for w, (_, start, end) in enumerate(offsets) if end == start}
    sides[-1] = [p for p in sides[-1] if p.word not in special or p.is_unknown]
    return sides


def strongest_words(explanation: dict[str, Any], n: int = 10) -> list[Piece]:
    """Return at most n of the words that count, by descending absolute scores."""
    words = [p for p in split_explanation(explanation) if p.counts]
    return sorted(words, key=lambda piece: -abs(piece.strength))[:n]


def split_text(
    text: Any,
    words: Sequence[str],
    offsets: Any,
    scores: Sequence[float],
    unread: Sequence[bool],
) -> list[list[Piece]]:
    """Cut a text, or each text of a pair, at its words."""
    texts = [text] if isinstance(text, str) else list(text)
    largest = max(map(abs, scores), default=0.0) or 1.0
    sides: list[list[Piece]] = [[] for _ in texts]
    special: list[Piece] = []
    marked = text.span if isinstance(text, MarkedWord) else None
    positions = [0] * len(texts)  # characters after the last word
    rows = zip(words, offsets, scores, unread, strict=True)
    for w, (word, (segment, start, end), score, is_unread) in enumerate(rows):
        shown = f"»{word}«" if (start, end) == marked else word
        piece = Piece(shown, score, score / largest, w, is_unread)
        if end == start:
            special.append(piece)
            continue
        gap = texts[segment][positions[segment] : start]
        sides[segment] += [Piece(gap, None, 0.0), piece]
        positions[segment] = end
    for side, whole, position in zip(sides, texts, positions, strict=True):
        side.append(Piece(whole[position:], None, 0.0))
    sides[-1] += special
    return sides


def join_sides(sides: list[list[Piece]]) -> list[Piece]:
    """Join the pieces of a pair of texts; a bar separates the texts."""
    if len(sides) == 1:
        return sides[0]
    first, second = sides
    bar = Piece(f"{first[-1].text} | {second[0].text}", None, 0.0)
    return [*first[:-1], bar, *second[1:]]
