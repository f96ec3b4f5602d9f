"""The explanation of a number as lines of text, for a terminal."""

from __future__ import annotations

from typing import Any

import numpy as np

from skprotolm._display.formatting import decimal, one_line, percent
from skprotolm._display.text import (
    novelty_lines,
    plural,
    quoted,
    sentence_lines,
    shown_text,
    unread_lines,
    word_lines,
)

_LISTED = 3  # prototypes if top_k is None


def value_explanation_text(e: Any, *, color: bool) -> str:
    """Return a `ValueExplanation` as lines of text."""
    lines = [
        *novelty_lines(e),
        f"predicted: {_number(e, e.prediction)}",
        *sentence_lines(e, e.decimals + 1),
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
