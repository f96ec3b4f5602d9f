"""Explanations as matplotlib figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from skprotolm._display import percent, shorten
from skprotolm.exceptions import MissingExtraError

_FOR, _AGAINST = "#2a8f4f", "#c8443c"
_ROW = 0.28  # inches a bar takes
_LISTED = 5  # prototypes, unless top_k says
_QUOTE_LENGTH = 60


def plot_explanation(e: Any) -> Any:
    """Draw the scores of an explanation's words, and its prototypes' contributions."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "plot needs matplotlib, which is not installed: pip install matplotlib."
        ) from error
    listed = e.prototypes[: e.top_k or _LISTED]
    n_words = 0 if e.word_scores is None else len(e.words)
    rows = [n_words or 1, len(listed)]
    # Not pyplot's, which would keep the figure alive and needs a backend.
    figure = Figure(figsize=(8, 1.8 + _ROW * sum(rows)), layout="constrained")
    words, prototypes = figure.subplots(2, 1, height_ratios=rows)
    figure.suptitle(f"{e.target}: {percent(e.probability)}")
    if n_words:
        _bars(words, e.words, e.word_scores, e.word_scores > 0)
        words.set_xlabel(f"part of the log-odds of {e.target}")
    else:
        words.set_axis_off()
    quotes = [f"{p.label}: {shorten(p.text, _QUOTE_LENGTH)}" for p in listed]
    shares = np.array([p.contribution for p in listed])
    _bars(prototypes, quotes, shares, [p.label == e.target for p in listed])
    in_shares = e.space == "probability"
    prototypes.set_xlabel("share" if in_shares else f"part of the score of {e.target}")
    return figure


def _bars(axes: Any, names: Any, values: np.ndarray, speaks_for: Any) -> None:
    places = np.arange(len(values))
    colors = [_FOR if mine else _AGAINST for mine in speaks_for]
    # Hatched, so that colours are not all that tells the two apart.
    hatches = ["" if mine else "//" for mine in speaks_for]
    axes.barh(places, values, color=colors, hatch=hatches, edgecolor="white")
    axes.axvline(0, color="black", linewidth=0.8)
    # A "$" in a text is no formula.
    axes.set_yticks(places, [str(name).replace("$", r"\$") for name in names])
    axes.invert_yaxis()
