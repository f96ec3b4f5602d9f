"""The explanation of a number as a matplotlib figure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from skprotolm._display.formatting import decimal
from skprotolm._display.plots import (
    BARS,
    GREEN,
    LISTED,
    draw_bars,
    quote_prototype,
    set_xlabel,
    word_and_bar_panels,
)


def plot_value_explanation(e: Any) -> Any:
    """Draw the word scores of an explanation and the shares of prototypes."""
    listed = replace(e, top_k=min(e.top_k or LISTED, BARS)).prototypes
    title = f"predicted: {decimal(e.prediction, e.decimals)}"
    label = "part of the prediction"
    figure, axes = word_and_bar_panels(e, title, label, len(listed))
    names = [quote_prototype(e._label_name(p.index), p.text, p.unread) for p in listed]
    shares = np.array([p.share for p in listed])
    draw_bars(axes, names, shares, [GREEN] * len(listed))
    set_xlabel(axes, e.unit.axis_label)
    return figure
