"""Texts cut into words with scores and the characters between the words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

STRONGEST_SHARE = 0.1  # of the largest absolute score: weaker words are not marked


class Piece(NamedTuple):
    """A part of a text: a word with its score, or the characters between two words."""

    text: str
    score: float | None
    strength: float  # score, relative to the largest absolute score of the text
    word: int | None = None  # position in the words
    is_unknown: bool = False  # the tokenizer cannot read the word

    @property
    def counts(self) -> bool:
        """Whether the score is large enough for the word to be marked."""
        return abs(self.strength) >= STRONGEST_SHARE

    @property
    def is_cut(self) -> bool:
        """Whether the encoder does not read it because the text is too long."""
        return self.word is None and any(
            letter.isalnum() or letter == "\ufffd" for letter in self.text
        )


def split_explanation(explanation: dict[str, Any]) -> list[Piece]:
    """Cut the text of an explanation into words with scores and gaps.

    The pieces contain the whole text, including parts that are not read. Special
    tokens, which are not in the text, come last.
    """
    words, offsets = explanation["words"], explanation["word_offsets"]
    scores, unread = explanation["word_scores"], explanation["word_unread"]
    if scores:
        return split_text(explanation["text"], words, offsets, scores, unread)
    # Without scores, only unread words are marked.
    rows = [w for w, is_unread in enumerate(unread) if is_unread]
    words, offsets = [words[w] for w in rows], [offsets[w] for w in rows]
    n = len(rows)
    return split_text(explanation["text"], words, offsets, [0.0] * n, [True] * n)


def strongest_words(explanation: dict[str, Any], n: int = 20) -> list[Piece]:
    """Return the n words of the largest absolute scores, in descending order."""
    words = [p for p in split_explanation(explanation) if p.score is not None]
    return sorted(words, key=lambda piece: -abs(piece.strength))[:n]


def split_match(
    explanation: dict[str, Any], match: dict[str, Any]
) -> tuple[list[Piece], list[Piece]]:
    """Cut the text and the prototype's text; a word's score is that of its best match.

    Parameters
    ----------
    explanation, match : dict
        The explanation, and its word alignment with one prototype.
    """
    matrix = match["matrix"]
    row_scores = [max(row) for row in matrix]
    column_scores = [max(column) for column in zip(*matrix, strict=True)]
    return (
        split_text(
            explanation["text"],
            explanation["words"],
            explanation["word_offsets"],
            row_scores,
            explanation["word_unread"],
        ),
        split_text(
            match["text"],
            match["words"],
            match["offsets"],
            column_scores,
            match["unread"],
        ),
    )


def split_text(
    text: Any,
    words: Sequence[str],
    offsets: Any,
    scores: Sequence[float],
    unread: Sequence[bool],
) -> list[Piece]:
    """Cut a text, or a pair of texts, at its words."""
    texts = [text] if isinstance(text, str) else list(text)
    largest = max(map(abs, scores), default=0.0) or 1.0
    pieces: list[Piece] = []
    special: list[Piece] = []
    position = (0, 0)  # segment and character after the last word
    rows = zip(words, offsets, scores, unread, strict=True)
    for w, (word, (segment, start, end), score, is_unread) in enumerate(rows):
        piece = Piece(word, score, score / largest, w, is_unread)
        if end == start:
            special.append(piece)
            continue
        pieces += [_gap(texts, position, (segment, start)), piece]
        position = (segment, end)
    return [*pieces, _gap(texts, position, (len(texts) - 1, len(texts[-1]))), *special]


def _gap(texts: list[str], start: tuple[int, int], end: tuple[int, int]) -> Piece:
    """Return the characters between two positions; a bar separates a pair's texts."""
    if start[0] == end[0]:
        return Piece(texts[start[0]][start[1] : end[1]], None, 0.0)
    return Piece(f"{texts[0][start[1] :]} | {texts[1][: end[1]]}", None, 0.0)
