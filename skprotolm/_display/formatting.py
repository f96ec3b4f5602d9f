"""Texts, words and numbers, formatted for terminals, pages and figures."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from skprotolm._data.words import MarkedWord
from skprotolm._tasks.units import Unit

# Control characters except tab and line feed, and bidirectional controls.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


_MOST_DECIMALS, _LONGEST = 9, 1e12


def shorten(text: Any, length: int = 90) -> str:
    """Put a text, or a pair of texts, on one line of at most `length` characters.

    Each text of a pair gets at least half of the line, unless it needs less. A marked
    word stands between "»" and "«", with the text around it.
    """
    if isinstance(text, MarkedWord):
        return _shorten_around(text, length)
    texts = text if isinstance(text, tuple) else (str(text),)
    sides = [" ".join(side.split()) for side in texts]
    line = " ".join(" | ".join(sides).split())
    available = length - len(" | ")
    if len(line) > length and len(sides) == 2 and available > 1:
        half = max(available - available // 2, available - len(sides[1]))
        sides[0] = shorten(sides[0], half)
        sides[1] = shorten(sides[1], available - len(sides[0]))
        line = " ".join(" | ".join(sides).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def _shorten_around(text: MarkedWord, length: int) -> str:
    """Put a marked word on one line, with as much of its sentence as fits."""
    start, end = text.span
    word = shorten(f"»{text[start:end]}«", length)
    before, after = (" ".join(part.split()) for part in (text[:start], text[end:]))
    before, after = before + " " * bool(before), " " * bool(after) + after
    available = length - len(word)
    if available < 2:
        return word
    half = max(available // 2, available - len(before))
    after = after if len(after) <= half else after[: max(half - 1, 0)].rstrip() + "…"
    available -= len(after)
    if len(before) > available:
        before = "…" + before[len(before) - max(available - 1, 0) :].lstrip()
    return f"{before}{word}{after}"


def printable(text: str) -> str:
    """Replace control characters, which a terminal executes and fonts lack.

    CRLF and CR become line feeds.
    """
    return _CONTROL.sub("\ufffd", re.sub(r"\r\n?", "\n", text))


def one_line(text: str) -> str:
    """Make a text printable and replace its tabs and line feeds by spaces."""
    return re.sub(r"[\t\n]", " ", printable(text))


def percent(share: float) -> str:
    """Format a share as a percentage; only exact ones are "0.0 %" or "100.0 %"."""
    formatted = f"{100 * share:.1f}"
    if formatted == "0.0" and share > 0:
        return "< 0.1 %"
    if formatted == "100.0" and share < 1:
        return "> 99.9 %"
    return f"{formatted} %"


def decimal(value: float, decimals: int, sign: str = "") -> str:
    """Format a number with some decimals, without "-0.0"; a sign of "+" shows both.

    Numbers that would be long have an exponent and four digits.
    """
    if decimals > _MOST_DECIMALS or abs(value) >= _LONGEST:
        return f"{value:{sign}.4g}"
    return f"{round(value, decimals) + 0.0:{sign}.{decimals}f}"


def decimals_of(values: np.ndarray) -> int:
    """Return as many decimals as show differences of a thousandth of the range."""
    if not len(values):
        return 2
    spread = float(values.max() - values.min()) or float(np.abs(values).max()) or 1.0
    return max(0, 2 - math.floor(math.log10(spread)))


def amount(value: float, unit: Unit) -> str:
    """Format a contribution, or a sum of contributions, in its unit."""
    return percent(value) if unit.is_percentage else f"{value:+.3f}"


def class_name(label: Any) -> str:
    """Name a class: "positive", but "class 1"."""
    is_word = isinstance(label, str) and any(map(str.isalpha, label))
    return str(label) if is_word else f"class {label}"


def set_name(label: Any) -> str:
    """Name what a prototype stands for: a class, a number, or a tuple of labels."""
    if not isinstance(label, tuple):
        return str(label)
    return ", ".join(map(str, label)) or "no label"


def text_of_class(label: Any, noun: str = "text") -> str:
    """Name a text by its class: "positive text", but "text of class 1"."""
    name = class_name(label)
    return f"{name} {noun}" if name == label else f"{noun} of {name}"


def compared(target: Any, against: Any) -> str:
    """Name what is explained: "positive", or "positive rather than negative"."""
    if against is None:
        return class_name(target)
    return f"{class_name(target)} rather than {class_name(against)}"


def mark_unread(words: Sequence[str], unread: Sequence[bool]) -> list[str]:
    """Return the words; those that the tokenizer cannot read are marked."""
    pairs = zip(words, unread, strict=True)
    return [f"{word} (not read)" if is_unread else word for word, is_unread in pairs]
