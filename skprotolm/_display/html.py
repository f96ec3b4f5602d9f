"""Plain dicts to what people read: escaped HTML and data frames."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jinja2
import numpy as np

from skprotolm.exceptions import MissingExtraError

# All but tab and new line, and what turns the direction of the rest of a line.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("skprotolm._display"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["shorten"] = shorten
    environment.filters["percent"] = percent
    environment.filters["pieces"] = pieces
    environment.filters["match_pieces"] = match_pieces
    environment.filters["strongest"] = strongest
    return environment


def explanations_html(
    explanations: list[dict[str, Any]], *, page: bool, n_more: int = 0
) -> str:
    """Render explanations as a page, or as a snippet that may leave `n_more` out."""
    template = _templates().get_template("explanations.html")
    shown = [{"matches": [], **explanation} for explanation in explanations]
    return template.render(explanations=shown, page=page, n_more=n_more)


def prototypes_html(prototypes: list[dict[str, Any]], *, n_more: int = 0) -> str:
    """Render prototypes as a table of cards that may leave `n_more` out."""
    template = _templates().get_template("prototypes.html")
    return template.render(prototypes=prototypes, n_more=n_more)


def report_html(report: dict[str, Any]) -> str:
    """Render a report as a page."""
    return _templates().get_template("report.html").render(r=report)


def as_frame(records: list[dict[str, Any]]) -> Any:
    """Return a pandas DataFrame of some records."""
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError(
            "A data frame needs pandas, which is not installed: pip install pandas."
        ) from error
    return pd.DataFrame.from_records(records)


def as_shap(explanations: list[dict[str, Any]], base_values: list[float]) -> Any:
    """Return a shap.Explanation of several texts, one value a word.

    Each has what follows it up to the next, since SHAP joins them as they are.
    """
    try:
        import shap
    except ImportError as error:
        raise MissingExtraError(
            "to_shap needs shap, which is not installed: pip install shap."
        ) from error
    n = len(explanations)
    values, data = np.empty(n, dtype=object), np.empty(n, dtype=object)
    for row, explanation in enumerate(explanations):  # arrays of several lengths
        values[row] = np.array(explanation["word_scores"])
        data[row] = np.array(_with_gaps(explanation), dtype=object)
    return shap.Explanation(
        values,
        base_values=np.array(base_values),
        data=data,
        # To sum over texts by.
        feature_names=[named_words(e["words"], e["word_unread"]) for e in explanations],
    )


def named_words(words: Sequence[str], unread: Sequence[bool]) -> list[str]:
    """Return words, those marked that the tokenizer cannot read."""
    pairs = zip(words, unread, strict=True)
    return [f"{word} (not read)" if is_unread else word for word, is_unread in pairs]


def _with_gaps(explanation: dict[str, Any]) -> list[str]:
    """Return the words, each with what stands between it and the next."""
    found = list(explanation["words"])
    places = explanation["word_offsets"]
    standing = [w for w, (_, start, end) in enumerate(places) if end > start]
    parts = pieces(explanation)  # a gap, the first that stands there, a gap, …
    for number, w in enumerate(standing[:-1]):
        found[w] += parts[2 * number + 2].text
    return found


def shorten(text: Any, length: int = 90) -> str:
    """Put a text, or a pair of texts, on one line of at most `length` characters.

    Each text of a pair gets half of them, and what the other one leaves.
    """
    given = text if isinstance(text, tuple) else (str(text),)
    sides = [" ".join(side.split()) for side in given]
    line = " ".join(" | ".join(sides).split())
    room = length - len(" | ")
    if len(line) > length and len(sides) == 2 and room > 1:
        half = max(room - room // 2, room - len(sides[1]))
        sides[0] = shorten(sides[0], half)
        sides[1] = shorten(sides[1], room - len(sides[0]))
        line = " ".join(" | ".join(sides).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def printable(text: str) -> str:
    """Replace control characters, which a terminal would obey and no font has.

    Line endings of all systems become line feeds.
    """
    return _CONTROL.sub("\ufffd", re.sub(r"\r\n?", "\n", text))


def one_line(text: str) -> str:
    """Write what a label may break on one line of a print."""
    return re.sub(r"[\t\n]", " ", printable(text))


def percent(share: float) -> str:
    """Write a share as a percentage, never as a 0 % or 100 % that it is not."""
    written = f"{100 * share:.1f}"
    if written == "0.0" and share > 0:
        return "< 0.1 %"
    if written == "100.0" and share < 1:
        return "> 99.9 %"
    return f"{written} %"


class Piece(NamedTuple):
    """A part of a text: a word with its score, or what lies between two words."""

    text: str
    score: float | None
    strength: float  # the score as a share of the text's strongest
    word: int | None = None  # its number
    is_unknown: bool = False  # whether the tokenizer cannot read the word

    @property
    def is_cut(self) -> bool:
        """Whether it has letters that belong to no token: a text's end cut off."""
        return self.word is None and any(
            letter.isalnum() or letter == "\ufffd" for letter in self.text
        )


def pieces(explanation: dict[str, Any]) -> list[Piece]:
    """Cut the text into words with their scores and what lies between them.

    The pieces hold the whole text, also what was not read of it. Special tokens,
    which stand nowhere in the text, come last.
    """
    words, offsets = explanation["words"], explanation["word_offsets"]
    scores, unread = explanation["word_scores"], explanation["word_unread"]
    if scores:
        return cut(explanation["text"], words, offsets, scores, unread)
    # Without scores there are no words to show but those that are not read.
    some = [w for w, is_unread in enumerate(unread) if is_unread]
    words, offsets = [words[w] for w in some], [offsets[w] for w in some]
    n = len(some)
    return cut(explanation["text"], words, offsets, [0.0] * n, [True] * n)


def strongest(explanation: dict[str, Any], n: int = 20) -> list[Piece]:
    """Return the words of the n highest scores, by size, whatever their sign."""
    scored = [piece for piece in pieces(explanation) if piece.score is not None]
    return sorted(scored, key=lambda piece: -abs(piece.strength))[:n]


def cut(
    text: Any,
    words: Sequence[str],
    offsets: Any,
    scores: Sequence[float],
    unread: Sequence[bool],
) -> list[Piece]:
    """Cut a text, or a pair of texts, at the places of its words."""
    texts = [text] if isinstance(text, str) else list(text)
    strongest = max(map(abs, scores), default=0.0) or 1.0
    found: list[Piece] = []
    special: list[Piece] = []
    at = (0, 0)
    scored = zip(words, offsets, scores, unread, strict=True)
    for number, (word, (segment, start, end), score, unknown) in enumerate(scored):
        piece = Piece(word, score, score / strongest, number, unknown)
        if end == start:
            special.append(piece)
            continue
        found += _between(texts, at, (segment, start))
        found.append(piece)
        at = (segment, end)
    return found + _between(texts, at, (len(texts) - 1, len(texts[-1]))) + special


def match_pieces(
    explanation: dict[str, Any], match: dict[str, Any]
) -> tuple[list[Piece], list[Piece]]:
    """Cut both texts of an alignment, each word with its best match."""
    matrix = match["matrix"]
    mine = [max(row) for row in matrix]
    theirs = [max(column) for column in zip(*matrix, strict=True)]
    words, offsets = explanation["words"], explanation["word_offsets"]
    return (
        cut(explanation["text"], words, offsets, mine, explanation["word_unread"]),
        cut(match["text"], match["words"], match["offsets"], theirs, match["unread"]),
    )


def _between(
    texts: list[str], begin: tuple[int, int], end: tuple[int, int]
) -> list[Piece]:
    """Return what stands between two places; the texts of a pair part at a bar."""
    if begin[0] == end[0]:
        between = texts[begin[0]][begin[1] : end[1]]
    else:
        between = f"{texts[0][begin[1] :]} | {texts[1][: end[1]]}"
    return [Piece(between, None, 0.0)]
