"""The explanation of a number as lines of text, for a terminal."""

from __future__ import annotations

from typing import Any

import numpy as np

from skprotolm._display.formatting import (
    decimal,
    one_line,
    percents,
    summands,
)
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
    is_like = e._reads_like[listed]
    listed = np.append(listed[is_like], listed[~is_like])
    sums = e._sum_of(others)
    shares = percents([*e.shares[listed], sums["share"]])
    amounts = summands([*e.contributions[listed], sums["contribution"]], e.decimals)
    lines = [
        f"{_amount(e, amount)}  = {share} × {_number(e, value)}: {quoted(e, j)}"
        for amount, share, value, j in zip(
            amounts, shares, e.prototype_values[listed].tolist(), listed, strict=False
        )
    ]
    if others.size:
        count = f"{len(others)} other text{plural(others)}"
        lines.append(f"{_amount(e, amounts[-1])}  = {shares[-1]} of {count}")
    n_like = int(is_like.sum())
    if n_like < len(listed):
        texts = "texts are" if len(listed) - n_like > 1 else "text is"
        rank = "and its next" if n_like else "because its nearest"
        lines.insert(n_like, f"  {rank} {texts}")
    if n_like:
        lines.insert(0, "  because it reads like")
    return [*lines, f"{f'= {_number(e, e.prediction)}':>10}"]


def _number(e: Any, value: float) -> str:
    return decimal(value, e.decimals)


def _amount(e: Any, value: float) -> str:
    return f"{_number(e, value):>10}"
