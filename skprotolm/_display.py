"""Plain dicts to what people read: escaped HTML, terminal text, data frames."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jinja2

from skprotolm.exceptions import MissingExtraError

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
    return environment


def explanations_html(explanations: list[dict[str, Any]], *, page: bool) -> str:
    """Render explanations as a page of its own, or as a snippet for a notebook."""
    template = _templates().get_template("explanations.html")
    return template.render(explanations=explanations, page=page)


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


def percent(share: float) -> str:
    """Write a share as a percentage, never as a 0 % or 100 % that it is not."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    if 0.9995 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


def coloured(words: list[str], scores: list[float]) -> str:
    """Paint words for a terminal: green speaks for the class, red against it."""
    strongest = max(map(abs, scores), default=0.0) or 1.0
    return " ".join(
        _paint(word, score / strongest)
        for word, score in zip(words, scores, strict=True)
    )


def _paint(word: str, strength: float) -> str:
    if abs(strength) < 0.1:
        return word
    palette = _FOR if strength > 0 else _AGAINST
    shade = palette[min(int(abs(strength) * len(palette)), len(palette) - 1)]
    return f"\x1b[30;48;5;{shade}m{word}{_RESET}"
