"""Plain dicts to what people read: escaped HTML, terminal text, data frames."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

import jinja2

from skprotolm.exceptions import MissingExtraError

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab, new line
_RESET = "\x1b[0m"
# Pale to strong, from the 256-colour cube, readable under black letters.
_FOR = (194, 157, 120, 83)
_AGAINST = (224, 217, 210, 203)


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("skprotolm"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["shorten"] = shorten
    environment.filters["percent"] = percent
    environment.filters["pieces"] = pieces
    return environment


def explanations_html(
    explanations: list[dict[str, Any]], *, page: bool, n_more: int = 0
) -> str:
    """Render explanations as a page, or as a snippet that may leave `n_more` out."""
    template = _templates().get_template("explanations.html")
    return template.render(explanations=explanations, page=page, n_more=n_more)


def prototypes_html(prototypes: list[dict[str, Any]]) -> str:
    """Render prototypes as a table."""
    template = _templates().get_template("prototypes.html")
    return template.render(prototypes=prototypes)


def as_frame(records: list[dict[str, Any]]) -> Any:
    """Return a pandas DataFrame of some records."""
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError(
            "to_frame needs pandas, which is not installed: pip install pandas."
        ) from error
    return pd.DataFrame.from_records(records)


def shorten(text: Any, length: int = 90) -> str:
    """Put a text, or a pair of texts, on one line of at most `length` characters."""
    line = " | ".join(text) if isinstance(text, tuple) else str(text)
    line = " ".join(line.split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def printable(text: str) -> str:
    """Replace control characters, which a terminal would obey."""
    return _CONTROL.sub("\ufffd", text)


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


def pieces(explanation: dict[str, Any]) -> list[Piece]:
    """Cut the text into words and what lies between them.

    The pieces hold the whole text, also what was not read of it. Special tokens,
    which stand nowhere in the text, come last.
    """
    text = explanation["text"]
    texts = [text] if isinstance(text, str) else list(text)
    scores = explanation["word_scores"] or []
    strongest = max(map(abs, scores), default=0.0) or 1.0
    cut: list[Piece] = []
    special: list[Piece] = []
    at = (0, 0)
    words = zip(explanation["words"], explanation["word_offsets"], scores, strict=True)
    for word, (segment, start, end), score in words if scores else ():
        piece = Piece(word, score, score / strongest)
        if end == start:
            special.append(piece)
            continue
        cut += _between(texts, at, (segment, start))
        cut.append(piece)
        at = (segment, end)
    return cut + _between(texts, at, (len(texts) - 1, len(texts[-1]))) + special


def _between(
    texts: list[str], begin: tuple[int, int], end: tuple[int, int]
) -> list[Piece]:
    """Return what stands between two places; the texts of a pair part at a bar."""
    if begin[0] == end[0]:
        between = texts[begin[0]][begin[1] : end[1]]
    else:
        between = f"{texts[0][begin[1] :]} | {texts[1][: end[1]]}"
    return [Piece(between, None, 0.0)]


def coloured(explanation: dict[str, Any]) -> str:
    """Paint words for a terminal: green speaks for the class, red against it."""
    return "".join(_paint(piece.text, piece.strength) for piece in pieces(explanation))


def _paint(word: str, strength: float) -> str:
    word = printable(word)
    if abs(strength) < 0.1:
        return word
    palette = _FOR if strength > 0 else _AGAINST
    shade = palette[min(int(abs(strength) * len(palette)), len(palette) - 1)]
    return f"\x1b[30;48;5;{shade}m{word}{_RESET}"
