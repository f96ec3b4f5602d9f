"""Long texts: sentences in which no word counts are folded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from skprotolm._display.pieces import Piece

_MAX_SENTENCES, _MAX_CHARACTERS = 8, 1500  # a longer text is folded
_MIN_FOLDED = 2  # sentences in a row


class Run(NamedTuple):
    """Successive pieces of a text that are shown, or folded."""

    pieces: list[Piece]
    n_folded: int = 0  # sentences


def fold(pieces: list[Piece], starts: Sequence[int]) -> list[Run]:
    """Fold runs of sentences of a long text in which no word counts.

    Parameters
    ----------
    pieces : list of Piece
        The text.
    starts : sequence of int
        The first character of each sentence.
    """
    return _fold(pieces, starts, lambda s: any(piece.counts for piece in s))


def fold_end(text: str, starts: Sequence[int]) -> list[Run]:
    """Fold a long text without word scores after its first sentences."""
    first = iter(range(_MAX_SENTENCES // 2))
    pieces = [Piece(text, None, 0.0)]
    return _fold(pieces, starts, lambda _: next(first, None) is not None)


def _fold(
    pieces: list[Piece], starts: Sequence[int], is_shown: Callable[[list[Piece]], bool]
) -> list[Run]:
    n_characters = sum(len(piece.text) for piece in pieces)
    if len(starts) <= _MAX_SENTENCES and n_characters <= _MAX_CHARACTERS:
        return [Run(pieces)]
    runs: list[Run] = []
    sentences = _split_sentences(pieces, starts[1:])
    for shown, group in groupby(sentences, key=is_shown):
        run = list(group)
        joined = [piece for sentence in run for piece in sentence]
        if not shown and len(run) >= _MIN_FOLDED:
            runs.append(Run(joined, len(run)))
        elif runs and not runs[-1].n_folded:
            runs[-1].pieces.extend(joined)
        else:
            runs.append(Run(joined))
    return runs


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
