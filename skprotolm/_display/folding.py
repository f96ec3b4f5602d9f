"""Long texts: the sentences that matter are shown, and the others are folded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from skprotolm._data.words import MarkedWord
from skprotolm._display.pieces import Piece

MAX_SENTENCES = 8  # a text of more leads with those that matter
_MAX_CHARACTERS = 1500  # a longer text is folded, too
_SHOWN = 10  # sentences, at most
_MIN_FOLDED = 2  # sentences in a row


class Run(NamedTuple):
    """A text, one of the shown sentences of a long text, or several folded ones."""

    pieces: list[Piece]
    n_folded: int = 0  # sentences
    score: float | None = None  # of the words of a long text

    @property
    def n_words(self) -> int:
        """How many words there are."""
        return sum(piece.word is not None for piece in self.pieces)


def starts(offsets: Sequence[Sequence[int]], segment: int) -> list[int]:
    """Return the first characters of the sentences of one text of a pair."""
    return [start for side, start, _ in offsets if side == segment]


def fold(pieces: list[Piece], starts: Sequence[int]) -> list[Run]:
    """Fold the sentences of a long text, but for those whose words count most.

    Parameters
    ----------
    pieces : list of Piece
        The text.
    starts : sequence of int
        The first character of each sentence.
    """
    if _is_short(pieces, starts):
        return [Run(pieces)]
    sentences = list(_split_sentences(pieces, starts[1:]))
    weights = [sum(abs(p.score or 0) for p in s if p.counts) for s in sentences]
    order = sorted(range(len(weights)), key=lambda i: -weights[i])  # stable
    strongest = {i for i in order[:_SHOWN] if weights[i] > 0}
    shown = iter([i in strongest for i in range(len(weights))])
    return _fold(sentences, lambda _: next(shown))


def fold_end(text: str, starts: Sequence[int]) -> list[Run]:
    """Fold a long text without word scores after its first sentences."""
    shown = text.marked() if isinstance(text, MarkedWord) else text
    pieces = [Piece(shown, None, 0.0)]
    if _is_short(pieces, starts):
        return [Run(pieces)]
    first = iter(range(MAX_SENTENCES // 2))
    sentences = _split_sentences(pieces, starts[1:])
    return _fold(sentences, lambda _: next(first, None) is not None)


def folded_parts(sides: list[list[Piece]], offsets: Sequence[Sequence[int]]) -> Run:
    """Return all that `fold` folds of a text's sides."""
    runs = [
        run
        for segment, side in enumerate(sides)
        for run in fold(side, starts(offsets, segment))
        if run.n_folded
    ]
    pieces = [piece for run in runs for piece in run.pieces]
    return Run(pieces, sum(run.n_folded for run in runs), _score(pieces))


def _is_short(pieces: list[Piece], starts: Sequence[int]) -> bool:
    n_characters = sum(len(piece.text) for piece in pieces)
    is_short = len(starts) <= MAX_SENTENCES and n_characters <= _MAX_CHARACTERS
    return is_short or len(starts) <= 1


def _fold(
    sentences: Iterable[list[Piece]], is_shown: Callable[[list[Piece]], bool]
) -> list[Run]:
    runs: list[Run] = []
    for shown, group in groupby(sentences, key=is_shown):
        run = list(group)
        if shown or len(run) < _MIN_FOLDED:
            runs += [Run(sentence, score=_score(sentence)) for sentence in run]
        else:
            joined = [piece for sentence in run for piece in sentence]
            runs.append(Run(joined, len(run), _score(joined)))
    return runs


def _score(pieces: list[Piece]) -> float:
    return sum(piece.score or 0.0 for piece in pieces)


def _split_sentences(pieces: list[Piece], ends: Sequence[int]) -> Iterator[list[Piece]]:
    """Cut pieces at the ends of sentences; a word is not cut."""
    text = "".join(piece.text for piece in pieces)
    sentence: list[Piece] = []
    position = 0
    for piece in pieces:
        stop = position + len(piece.text)
        cuts = ends[bisect_right(ends, position) : bisect_right(ends, stop)]
        for cut in cuts if piece.word is None else [stop] * bool(cuts):
            yield [*sentence, piece._replace(text=text[position:cut])]
            sentence, position = [], cut
        if position < stop:
            sentence.append(piece._replace(text=text[position:stop]))
        position = stop
    if sentence:
        yield sentence
