"""An explained text and its quotes, whose matching words light up together."""

from __future__ import annotations

from typing import Any

from skprotolm._display.pieces import Piece, split_sides, split_text

_Sides = list[list[Piece]]  # a text, or both texts of a pair
# The positions of two matching words, among the elements of both texts, and how much.
_Pairs = list[list[float]]


def split_page(
    explanation: dict[str, Any],
) -> tuple[_Sides, dict[int, tuple[_Sides, _Pairs]]]:
    """Cut the explained text, and the quotes, by the index of the prototype."""
    matches = explanation["matches"]
    linked = {i for match in matches for i, _, _ in match["pairs"]}
    sides = [
        [piece._replace(is_linked=piece.word in linked) for piece in side]
        for side in split_sides(explanation)
    ]
    positions = _element_positions(sides)
    return sides, {match["index"]: _split_quote(match, positions) for match in matches}


def _split_quote(
    match: dict[str, Any], positions: dict[int, int]
) -> tuple[_Sides, _Pairs]:
    """Cut a prototype's text; the score of a word is that of its best match."""
    scores = [0.0] * len(match["words"])
    for _, j, strength in match["pairs"]:
        scores[j] = max(scores[j], strength)
    sides = split_text(
        match["text"], match["words"], match["offsets"], scores, match["unread"]
    )
    columns = _element_positions(sides)
    pairs = [
        [positions[i], columns[j], strength]
        for i, j, strength in match["pairs"]
        if i in positions
    ]
    return sides, pairs


def _element_positions(sides: _Sides) -> dict[int, int]:
    """Return the position of each word among the elements of a text."""
    elements = [piece for side in sides for piece in side if piece.is_element]
    return {p.word: n for n, p in enumerate(elements) if p.word is not None}
