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
_LITTLE, _ALMOST = "< 0.1 %", 0.9995  # shares that are close to 0 and to 1


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

    CRLF and CR become line feeds, and tabs spaces.
    """
    lines = re.sub(r"\r\n?", "\n", text).replace("\t", " ")
    return _CONTROL.sub("\ufffd", lines)


def one_line(text: str) -> str:
    """Make a text printable and replace its tabs and line feeds by spaces."""
    return re.sub(r"[\t\n]", " ", printable(text))


def percent(share: float) -> str:
    """Format a share as a percentage; only exact ones are "0.0 %" or "100.0 %"."""
    formatted = f"{100 * share:.1f}"
    if formatted == "0.0" and share > 0:
        return _LITTLE
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


def summands(values: Sequence[float], decimals: int) -> list[float]:
    """Round values up or down so that they sum to their rounded sum.

    Values that `decimal` shows with an exponent are returned as they are.
    """
    largest = max(map(abs, values), default=0)
    if decimals > _MOST_DECIMALS or largest >= _LONGEST:
        return list(values)
    scaled = np.array(values, dtype=np.float64) * 10**decimals
    return (_whole_summands(scaled, scaled.sum()) / 10**decimals).tolist()


def _whole_summands(values: np.ndarray, total: float) -> np.ndarray:
    """Round down, but values of the largest fractions up, until the total is met."""
    rounded = np.floor(values)
    n_up = round(float(total - rounded.sum()))
    rounded[np.argsort(rounded - values, kind="stable")[:n_up]] += 1
    return rounded


def percents(shares: Sequence[float]) -> list[str]:
    """Format shares as percentages that add up to the percentage of their sum."""
    total = float(sum(shares))
    is_less = _ALMOST <= total < 1 - 1e-9  # which is shown as "> 99.9 %"
    per_mille = _whole_summands(
        1000 * np.array(shares, dtype=np.float64), 999 if is_less else 1000 * total
    )
    return [
        percent(share) if _ALMOST <= share < 1 else _percent(int(n), share)
        for n, share in zip(per_mille, shares, strict=True)
    ]


def _percent(per_mille: int, share: float) -> str:
    return percent(per_mille / 1000) if per_mille or share <= 0 else _LITTLE


def decimals_of(values: np.ndarray) -> int:
    """Return as many decimals as show differences of a thousandth of the range."""
    if not len(values):
        return 2
    spread = float(values.max() - values.min()) or float(np.abs(values).max()) or 1.0
    return max(0, 2 - math.floor(math.log10(spread)))


def amount(value: float, unit: Unit) -> str:
    """Format a contribution, or a sum of contributions, in its unit."""
    return percent(value) if unit.is_percentage else f"{value:+.3f}"


def amounts(values: Sequence[float], unit: Unit) -> list[str]:
    """Format contributions in their unit, so that they add up as shown."""
    if unit.is_percentage:
        return percents(values)
    return [decimal(value, 3, "+") for value in summands(values, 3)]


def class_name(label: Any, unit: Unit) -> str:
    """Name a class: "positive", but "class 1"."""
    is_word = isinstance(label, str) and any(map(str.isalpha, label))
    return str(label) if is_word else f"{unit.group} {label}"


def set_name(label: Any) -> str:
    """Name what a prototype stands for: a class, a number, or a tuple of labels."""
    if not isinstance(label, tuple):
        return str(label)
    return ", ".join(map(str, label)) or "no label"


def text_of_class(label: Any, unit: Unit, n: int = 1) -> str:
    """Name n texts by their class: "positive text", but "text of class 1"."""
    name, noun = class_name(label, unit), f"{unit.quoted}{'' if n == 1 else 's'}"
    return f"{name} {noun}" if name == label else f"{noun} of {name}"


def compared(target: Any, against: Any, unit: Unit) -> str:
    """Name what is explained: "positive", or "positive rather than negative"."""
    if against is None:
        return class_name(target, unit)
    return f"{class_name(target, unit)} rather than {class_name(against, unit)}"


def mark_unread(words: Sequence[str], unread: Sequence[bool]) -> list[str]:
    """Return the words; those that the tokenizer cannot read are marked."""
    pairs = zip(words, unread, strict=True)
    return [f"{word} (not read)" if is_unread else word for word, is_unread in pairs]
