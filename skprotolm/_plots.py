"""Explanations and prototypes as matplotlib figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skprotolm._display import percent, printable, shorten
from skprotolm._map import places
from skprotolm.exceptions import MissingExtraError

_FOR, _AGAINST = "#2a8f4f", "#c8443c"
_ROW = 0.28  # inches a bar takes
_LISTED = 5  # prototypes, unless top_k says
_CARRIERS = 15  # prototypes of several texts
_QUOTE_LENGTH = 60
_MARKERS = "osD^vPX*"  # told apart without colours
_LEGEND = 12  # classes that a legend lists


def plot_explanation(e: Any) -> Any:
    """Draw the scores of an explanation's words, and its prototypes' contributions."""
    listed = e.prototypes[: e.top_k or _LISTED]
    n_words = 0 if e.word_scores is None else len(e.words)
    rows = [n_words or 1, len(listed)]
    figure = _figure(8, 1.8 + _ROW * sum(rows))
    words, prototypes = figure.subplots(2, 1, height_ratios=rows)
    target = _plain(e.target)
    figure.suptitle(f"{target}: {percent(e.probability)}")
    if n_words:
        _bars(words, e.words, e.word_scores, e.word_scores > 0)
        words.set_xlabel(f"part of the log-odds of {target}")
    else:
        words.set_axis_off()
    quotes = [f"{p.label}: {shorten(p.text, _QUOTE_LENGTH)}" for p in listed]
    shares = np.array([p.contribution for p in listed])
    _bars(prototypes, quotes, shares, [p.label == e.target for p in listed])
    in_shares = e.space == "probability"
    prototypes.set_xlabel("share" if in_shares else f"part of the score of {target}")
    return figure


def plot_shares(explanations: Any) -> Any:
    """Draw which prototypes carry the predictions of several texts, on average."""
    first = explanations[0]
    mean = np.mean([e.contributions for e in explanations], axis=0)
    listed = np.argsort(-np.abs(mean), kind="stable")[: first.top_k or _CARRIERS]
    figure = _figure(8, 1.2 + _ROW * len(listed))
    axes = figure.subplots()
    labels = first.prototype_labels[listed].tolist()
    quotes = [
        f"{label}: {shorten(first.prototype_texts[j], _QUOTE_LENGTH)}"
        for label, j in zip(labels, listed.tolist(), strict=True)
    ]
    _bars(axes, quotes, mean[listed], mean[listed] > 0)
    what = "share" if first.space == "probability" else "part of the target's score"
    axes.set_xlabel(f"mean {what} over {len(explanations)} texts")
    return figure


def plot_map(vectors: np.ndarray, owners: Sequence[Any], labels: Sequence[Any]) -> Any:
    """Draw prototypes, whose vectors come first, and texts, with labels or None."""
    figure = _figure(8, 6)
    axes = figure.subplots()
    axes.set(xticks=[], yticks=[], title="Prototypes by their numbers in prototypes_")
    at = places(vectors)
    M = len(owners)
    classes = list(dict.fromkeys([*owners, *labels]))
    drawn = []
    for number, label in enumerate(classes):
        color = f"C{number % 10}" if label is not None else "0.6"
        marker = _MARKERS[number % len(_MARKERS)]
        mine = np.array([owner == label for owner in owners])
        its = np.array([given == label for given in labels], dtype=bool)
        axes.scatter(*at[M:][its].T, s=12, c=color, marker=marker, alpha=0.4)
        large = {"s": 90, "c": color, "marker": marker, "edgecolor": "k"}
        drawn.append(axes.scatter(*at[:M][mine].T, **large))
    for j in range(M):
        axes.annotate(str(j), at[j], xytext=(5, 5), textcoords="offset points")
    if len(classes) <= _LEGEND:
        names = ["no label" if x is None else _plain(x) for x in classes]
        axes.legend(drawn, names)  # given so, one that begins with "_" is listed too
    return figure


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "plot needs matplotlib, which is not installed: pip install matplotlib."
        ) from error
    # Not pyplot's, which would keep the figure alive and needs a backend.
    return Figure(figsize=(width, height), layout="constrained")


def _plain(text: Any) -> str:
    """Write a text for matplotlib, to which a "$" opens a formula."""
    return printable(str(text)).replace("$", r"\$")


def _bars(axes: Any, names: Any, values: np.ndarray, speaks_for: Any) -> None:
    rows = np.arange(len(values))
    colors = [_FOR if mine else _AGAINST for mine in speaks_for]
    # Hatched, so that colours are not all that tells the two apart.
    hatches = ["" if mine else "//" for mine in speaks_for]
    axes.barh(rows, values, color=colors, hatch=hatches, edgecolor="white")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(rows, [_plain(name) for name in names])
    axes.invert_yaxis()
