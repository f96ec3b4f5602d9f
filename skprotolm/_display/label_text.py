"""The explanation of one of several labels as lines of text, for a terminal."""

from __future__ import annotations

from typing import Any

import numpy as np

from skprotolm._display.formatting import class_name, one_line, percent, set_name
from skprotolm._display.text import (
    novelty_lines,
    plural,
    quoted,
    shown_text,
    summand_lines,
    unread_lines,
    word_lines,
)

_LISTED = 3  # prototypes of each side if top_k is None


def label_explanation_text(e: Any, *, color: bool) -> str:
    """Return a `LabelExplanation` as lines of text."""
    target = class_name(e.target, e.unit)
    lines = [
        *novelty_lines(e),
        f"{target}: {percent(e.probability)} (predicted: {set_name(e.prediction)})",
        *_side_lines(e, e.has_target, "because", f"with {target}"),
        *_side_lines(e, ~e.has_target, "although", f"without {target}"),
        *word_lines(e, f"log-odds of {target}", f" for {target}", 2, 2),
        *unread_lines(e),
    ]
    return "\n".join([shown_text(e, color=color), *map(one_line, lines)])


def _side_lines(e: Any, is_side: np.ndarray, link: str, name: str) -> list[str]:
    """Quote the prototypes with or without the label, whose shares sum to a side."""
    order = e.order[is_side[e.order]]
    listed, others = np.split(order, [e.top_k or _LISTED])
    nearest = e.similarities[is_side].max(initial=-np.inf)
    parts = [
        (
            float(e.contributions[j]),
            f"{link} {_reads(e, j, nearest, name)} {quoted(e, j)}: "
            f"{set_name(e.prototype_labels[j])}",
        )
        for j in listed
    ]
    if others.size:
        count = f"{len(others)} other text{plural(others)} {name}"
        parts.append((float(e.contributions[others].sum()), count))
    total = percent(float(e.contributions[order].sum()))
    return [*summand_lines(parts, e.unit), f"{f'= {total}':>10}  {name}"]


def _reads(e: Any, j: int, nearest: float, name: str) -> str:
    """Return what a quoted text is to the explained one."""
    if e._reads_like[j]:
        return "it reads like"
    rank = "nearest" if e.similarities[j] == nearest else "next"
    return f"its {rank} text {name} is"
