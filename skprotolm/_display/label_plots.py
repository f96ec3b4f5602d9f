"""The explanation of one of several labels as a matplotlib figure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from skprotolm._display.formatting import class_name, percent
from skprotolm._display.plots import (
    BARS,
    LISTED,
    draw_bars,
    for_or_against,
    quote_prototype,
    set_xlabel,
    word_and_bar_panels,
)


def plot_label_explanation(e: Any) -> Any:
    """Draw the word scores of an explanation and the contributions of prototypes."""
    listed = replace(e, top_k=min(e.top_k or LISTED, BARS)).prototypes
    target = class_name(e.target, e.unit)
    figure, axes = word_and_bar_panels(
        e,
        f"{target}: {percent(e.probability)}",
        f"part of the log-odds of {target}",
        len(listed),
    )
    names = [quote_prototype(e._label_name(p.index), p.text, p.unread) for p in listed]
    contributions = np.array([p.contribution for p in listed])
    colors = for_or_against([p.in_favor for p in listed])
    draw_bars(axes, names, contributions, colors)
    set_xlabel(axes, e.unit.axis_label)
    return figure
