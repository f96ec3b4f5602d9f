"""Explanations and prototypes as matplotlib figures."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from skprotolm._display.html import named_words, percent, printable, shorten
from skprotolm._display.map import places
from skprotolm.exceptions import MissingExtraError

_FOR, _AGAINST = "#2a8f4f", "#c8443c"
_WIDTH = 8  # inches of a figure
_ROW = 0.28  # inches a bar takes
# Inches that the names of bars may take, a class's name within them, and what stands
# under the axes, which get the rest.
_NAME, _LABEL, _CAPTION = 4.0, 1.5, 3.4
_BARS = 40  # that a panel shows at most; 200 would make a figure 56 inches high
_LISTED = 5  # prototypes, unless top_k says
_CARRIERS = 15  # prototypes of several texts
_LONGEST = 120  # characters of a name, however narrow
_UNREAD = 12  # characters of what is not read of a prototype's text
_MARKERS = "osD^vPX*"  # told apart without colours
_LEGEND = 12  # classes that a legend lists
_NUMBERED = 100  # prototypes on a map that has their numbers
# The size of a prototype's mark, in square points, and the least one of many.
_MARK, _SMALL_MARK = 90, 16
# Categories of what belongs to the letter before it: accents and joiners. The colors of
# skin that follow an emoji have a wider one.
_JOINED = ("Mn", "Mc", "Me", "Cf")
_SKIN_TONES = "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
# Fonts with the letters that matplotlib's own has not, where they are installed; its
# own comes last, since only that one is always there.
_FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans",
    "Yu Gothic",
    "Malgun Gothic",
    "Arial Unicode MS",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Bengali",
    "Noto Sans Tamil",
    "Noto Sans Thai",
    "Nirmala UI",
    "Segoe UI",
    "Segoe UI Symbol",
    "Noto Sans Symbols",
    "Noto Emoji",
    "DejaVu Sans",
)


def plot_explanation(e: Any) -> Any:
    """Draw the scores of an explanation's words, and its prototypes' contributions."""
    listed = e.prototypes[: min(e.top_k or _LISTED, _BARS)]
    scores = np.empty(0) if e.word_scores is None else e.word_scores
    # The strongest, in the order of the text.
    strongest = np.sort(np.argsort(-np.abs(scores), kind="stable")[:_BARS])
    rows = [len(strongest) or 1, len(listed)]
    figure = _figure(_WIDTH, 1.8 + _ROW * sum(rows))
    words, prototypes = figure.subplots(2, 1, height_ratios=rows)
    head = _font("large")
    title = f"{_fit(e.target, _WIDTH - 3, head)}: {percent(e.probability)}"
    figure.suptitle(_plain(title), fontproperties=head)
    if len(strongest):
        names = named_words(e.words, e.word_unread)
        named = [names[w] for w in strongest]
        _bars(words, named, scores[strongest], scores[strongest] > 0)
        _caption(words, f"part of the log-odds of {e.target}")
        if len(strongest) < len(scores):
            words.set_title(f"The {len(strongest)} strongest of {len(scores)} words")
    else:
        words.set_axis_off()
    quotes = [_quote(p.label, p.text, p.unread) for p in listed]
    shares = np.array([p.contribution for p in listed])
    _bars(prototypes, quotes, shares, [p.label == e.target for p in listed])
    in_shares = e.space == "probability"
    _caption(prototypes, "share" if in_shares else f"part of the score of {e.target}")
    return figure


def plot_shares(explanations: Any) -> Any:
    """Draw which prototypes carry the predictions of several texts, on average."""
    first = explanations[0]
    mean = np.mean([e.contributions for e in explanations], axis=0)
    n_listed = min(first.top_k or _CARRIERS, _BARS)
    listed = np.argsort(-np.abs(mean), kind="stable")[:n_listed]
    figure = _figure(_WIDTH, 1.2 + _ROW * len(listed))
    axes = figure.subplots()
    labels = first.prototype_labels[listed].tolist()
    quotes = [
        _quote(label, first.prototype_texts[j], first.prototype_unread[j])
        for label, j in zip(labels, listed.tolist(), strict=True)
    ]
    _bars(axes, quotes, mean[listed], mean[listed] > 0)
    what = "share" if first.space == "probability" else "part of the target's score"
    _caption(axes, f"mean {what} over {len(explanations)} texts")
    return figure


def plot_map(vectors: np.ndarray, owners: Sequence[Any], labels: Sequence[Any]) -> Any:
    """Draw prototypes, whose vectors come first, and texts, with labels or None."""
    figure = _figure(_WIDTH, 6)
    axes = figure.subplots()
    M = len(owners)
    numbered = M <= _NUMBERED
    title = "Prototypes by their numbers in prototypes_" if numbered else "Prototypes"
    axes.set(xticks=[], yticks=[], title=title)
    size = np.clip(_MARK * _NUMBERED / M, _SMALL_MARK, _MARK)
    at = places(vectors)
    classes = list(dict.fromkeys([*owners, *labels]))
    codes = {label: code for code, label in enumerate(classes)}
    of_prototypes = np.array([codes[owner] for owner in owners])
    of_texts = np.array([codes[label] for label in labels], dtype=int)
    drawn = []
    for code, label in enumerate(classes):
        color = f"C{code % 10}" if label is not None else "0.6"
        marker = _MARKERS[code % len(_MARKERS)]
        look = {"c": color, "marker": marker}
        axes.scatter(*at[M:][of_texts == code].T, s=12, alpha=0.4, **look)
        # Over the texts of all classes.
        edge = {"edgecolor": "k", "linewidth": 1.0 if numbered else 0.5, "zorder": 2}
        large = axes.scatter(*at[:M][of_prototypes == code].T, s=size, **look, **edge)
        drawn.append(large)
    if numbered:
        for j in range(M):
            axes.annotate(str(j), at[j], xytext=(5, 5), textcoords="offset points")
    if len(classes) <= _LEGEND:
        font = _font()
        names = ["no label" if x is None else _fit(x, _LABEL, font) for x in classes]
        # Given so, a name that begins with "_" is listed too.
        axes.legend(drawn, [_plain(name) for name in names], prop=font)
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


def _font(size: str = "medium") -> Any:
    """Return the user's font, with others for the letters that it lacks."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties, get_font_names

    installed = set(get_font_names())
    fallbacks = [name for name in _FALLBACKS if name in installed]
    return FontProperties(family=[*rcParams["font.family"], *fallbacks], size=size)


def _fit(text: Any, inches: float, font: Any) -> str:
    """Put a text, or a pair of texts, on one line of at most some inches.

    Characters say little of it: 60 "W" are twice as wide as 60 letters are on average,
    and constrained layout gives up where names leave no room for the axes.
    """
    from matplotlib.textpath import text_to_path

    most = np.array([72 * inches, 3 * font.get_size_in_points()])
    length = _LONGEST
    while True:
        line = _drawable(printable(shorten(text, length)), font)
        size = text_to_path.get_text_width_height_descent(line, font, ismath=False)[:2]
        excess = max(size / most)  # of the height too: accents can be heaped up
        if excess <= 1 or length == 1:
            return line
        length = max(1, min(length - 1, int(len(line) / excess)))


def _drawable(text: str, font: Any) -> str:
    """Replace what none of the fonts has, of which matplotlib would warn each time."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    files = [findfont(FontProperties(family=[name])) for name in font.get_family()]
    fonts = [get_font(file) for file in files]
    drawn: list[str] = []
    able = fonts  # those that can draw the last letter
    for letter in text:
        having = [f for f in fonts if f.get_char_index(ord(letter))]
        if unicodedata.category(letter) in _JOINED or letter in _SKIN_TONES:
            # An accent is drawn by the font of its letter, or not at all.
            having = [f for f in having if f in able]
            if having:
                drawn.append(letter)
                able = having
            continue
        able = having or [fonts[-1]]
        drawn.append(letter if having else "\ufffd")
    return "".join(drawn)


def _plain(line: str) -> str:
    """Write a line for matplotlib, to which a "$" opens a formula."""
    return line.replace("$", r"\$")


def _quote(label: Any, text: Any, unread: Sequence[str]) -> str:
    """Return a prototype's class and text, of which the class leaves some room.

    What is not read of the text comes before it, or it would be cut off.
    """
    named = shorten(", ".join(dict.fromkeys(unread)), _UNREAD)
    mark = f" (not read: {named})" if unread else ""
    return f"{_fit(label, _LABEL, _font())}{mark}: {shorten(text, _LONGEST)}"


def _caption(axes: Any, text: str) -> None:
    font = _font()
    axes.set_xlabel(_plain(_fit(text, _CAPTION, font)), fontproperties=font)


def _bars(axes: Any, names: Any, values: np.ndarray, speaks_for: Any) -> None:
    rows = np.arange(len(values))
    colors = [_FOR if mine else _AGAINST for mine in speaks_for]
    # Hatched, so that colours are not all that tells the two apart.
    hatches = ["" if mine else "//" for mine in speaks_for]
    axes.barh(rows, values, color=colors, hatch=hatches, edgecolor="white")
    axes.axvline(0, color="black", linewidth=0.8)
    font = _font()
    written = [_plain(_fit(name, _NAME, font)) for name in names]
    axes.set_yticks(rows, written, fontproperties=font)
    axes.invert_yaxis()
