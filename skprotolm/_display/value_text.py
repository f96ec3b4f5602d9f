"""The explanation of a number as lines of text, for a terminal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skprotolm._display.formatting import decimal, one_line, percent
from skprotolm._display.text import (
    novelty_lines,
    plural,
    quoted,
    shown_text,
    unread_lines,
    word_lines,
)

_LISTED = 3  # prototypes if top_k is None
_MOST_DECIMALS = 9


def decimals_of(values: np.ndarray) -> int:
    """Return as many decimals as show differences of a thousandth of the range."""
    largest = float(np.abs(values).max(initial=0.0))
    spread = (float(np.ptp(values)) if len(values) else 0.0) or largest or 1.0
    return max(0, min(_MOST_DECIMALS, 2 - math.floor(math.log10(spread))))


def value_explanation_text(e: Any, *, color: bool) -> str:
    """Return a `ValueExplanation` as lines of text."""
    lines = [
        *novelty_lines(e),
        f"predicted: {_number(e, e.prediction)}",
        *_contribution_lines(e),
        *word_lines(e, "prediction", "", e.decimals, e.decimals + 1),
        *unread_lines(e),
    ]
    return "\n".join([shown_text(e, color=color), *map(one_line, lines)])


def _contribution_lines(e: Any) -> list[str]:
    """List the shares times values, which sum to the prediction."""
    listed, others = np.split(e.order, [e.top_k or _LISTED])
    link = "because its nearest texts are" if e.is_unlike else "because it reads like"
    lines = [f"  {link}"]
    for p, j in zip(e._contributions_of(listed), listed, strict=True):
        product = f"{percent(p.share)} × {_number(e, p.value)}"
        lines.append(f"{_amount(e, p.contribution)}  = {product}: {quoted(e, j)}")
    if others.size:
        sums = e._sum_of(others)
        count = f"{len(others)} other text{plural(others)}"
        share = f"{percent(sums['share'])} of {count}"
        lines.append(f"{_amount(e, sums['contribution'])}  = {share}")
    return [*lines, f"{f'= {_number(e, e.prediction)}':>10}"]


def _number(e: Any, value: float) -> str:
    return decimal(value, e.decimals)


def _amount(e: Any, value: float) -> str:
    return f"{_number(e, value):>10}"
