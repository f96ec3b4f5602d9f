"""Explanations and prototypes as matplotlib figures."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from skprotolm._display.formatting import (
    class_name,
    compared,
    mark_unread,
    percent,
    printable,
    shorten,
)
from skprotolm._display.map import map_coordinates
from skprotolm._display.pieces import STRONGEST_SHARE
from skprotolm.exceptions import MissingExtraError

GREEN, _RED, _GRAY = "#2a8f4f", "#c8443c", "#b0b0b0"
_WIDTH = 8  # inches of a figure
_ROW = 0.28  # inches per bar
# Largest widths, in inches, of a bar's name, of a class label within it, and of an
# axis label. The axes get the remaining width.
_NAME, _LABEL, _CAPTION = 4.0, 1.5, 3.4
BARS = 40  # largest number per panel; 200 would make a figure 56 inches high
LISTED = 5  # prototypes if top_k is None
_LISTED_MEAN = 15  # the same for the mean over several texts
_SIDES = ("first text", "second text")  # of a pair
_NAME_LENGTH = 120  # characters of a name
_UNREAD_LENGTH = 12  # characters of the unread words of a prototype's text
_MARKERS = "osD^vPX*"  # per class, since colors alone do not suffice
_LEGEND = 12  # largest number of classes in a legend
# Largest number of prototypes with numbers, and with names, on a map.
_NUMBERED, _NAMED = 100, 12
# Size of a prototype's marker in square points, and the smallest size.
_MARKER_SIZE, _SMALLEST_SIZE = 90, 16
# Unicode categories of accents and joiners, which combine with the character before
# them, and the modifiers of an emoji's skin tone.
_COMBINING = ("Mn", "Mc", "Me", "Cf")
_SKIN_TONES = "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
# Used if they are installed, for characters that the font of matplotlib lacks. That
# font, the last one, is always installed.
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
    """Draw the word scores of an explanation and the contributions of prototypes."""
    listed = replace(e, top_k=min(e.top_k or LISTED, BARS)).prototypes
    explained = compared(e.target, e.against, e.unit)
    title = f"{_fit(class_name(e.target, e.unit), _WIDTH - 3, _font('large'))}"
    title += f": {percent(e.probability)}"
    names = [
        quote_prototype(class_name(p.label, e.unit), p.text, p.unread) for p in listed
    ]
    contributions = np.array([p.contribution for p in listed])
    colors = for_or_against([p.label == e.target for p in listed])
    figure, axes = word_and_bar_panels(
        e, title, f"part of the log-odds of {explained}", len(listed)
    )
    draw_bars(axes, names, contributions, colors)
    set_xlabel(axes, e.unit.axis_label.format(target=explained))
    return figure


def word_and_bar_panels(
    e: Any, title: str, words_label: str, n_bars: int
) -> tuple[Any, Any]:
    """Return a figure with the words of an explanation, and axes for bars below."""
    n_words = 1 if e.word_scores is None else min(len(e.word_scores), BARS)
    rows = [n_words, n_bars]
    figure = _figure(_WIDTH, 1.8 + _ROW * sum(rows))
    words, prototypes = figure.subplots(2, 1, height_ratios=rows)
    figure.suptitle(_escape(title), fontproperties=_font("large"))
    if e.word_scores is None:
        words.set_axis_off()
    else:
        _draw_words(words, e, words_label)
    return figure, prototypes


def _draw_words(axes: Any, e: Any, label: str) -> None:
    """Draw the strongest words in the order of the text."""
    strengths = np.abs(e.word_scores)
    strongest = np.sort(np.argsort(-strengths, kind="stable")[:BARS])
    names = mark_unread(e.words, e.word_unread)
    if not isinstance(e.text, str):
        sides = e.word_offsets[:, 0]
        names = [f"{w} ({_SIDES[side]})" for w, side in zip(names, sides, strict=True)]
    scores = e.word_scores[strongest]
    colors = for_or_against(scores > 0)
    weak = strengths[strongest] < STRONGEST_SHARE * strengths.max(initial=0.0)
    colors = [_GRAY if w else color for w, color in zip(weak, colors, strict=True)]
    draw_bars(axes, [names[w] for w in strongest], scores, colors)
    set_xlabel(axes, label)
    title = f"Words by {e.token_method}"
    if len(strongest) < len(strengths):
        title += f": the {len(strongest)} strongest of {len(strengths)}"
    axes.set_title(title)


def for_or_against(is_for: Any) -> list[str]:
    return [GREEN if value else _RED for value in is_for]


def plot_mean_contributions(explanations: Any) -> Any:
    """Draw the largest mean contributions of prototypes over several texts."""
    first = explanations[0]
    mean = sum(e.ranking for e in explanations) / len(explanations)
    n_listed = min(first.top_k or _LISTED_MEAN, BARS)
    listed = np.argsort(-np.abs(mean), kind="stable")[:n_listed]
    figure = _figure(_WIDTH, 1.2 + _ROW * len(listed))
    axes = figure.subplots()
    names = [
        quote_prototype(first._label_name(j), p.text, p.unread)
        for j, p in zip(listed.tolist(), first._contributions_of(listed), strict=True)
    ]
    draw_bars(axes, names, mean[listed], for_or_against(mean[listed] > 0))
    set_xlabel(
        axes, f"mean {first.unit.noun} over {len(explanations)} {first.unit.quoted}s"
    )
    return figure


def plot_map(
    vectors: np.ndarray,
    prototype_labels: Sequence[Any],
    names: Sequence[str],
    text_labels: Sequence[Any],
) -> Any:
    """Draw a map of prototypes and texts.

    Parameters
    ----------
    vectors : ndarray of shape (M + n, H)
        The vectors of the M prototypes, then those of the n texts.
    prototype_labels, names : sequences of length M
    text_labels : sequence of length n
        Labels, or None for texts without a label.
    """
    figure = _figure(_WIDTH, 6)
    axes = figure.subplots()
    M = len(prototype_labels)
    is_numbered = M <= _NUMBERED
    title = "Prototypes by their numbers in prototypes_"
    axes.set(xticks=[], yticks=[], title=title if is_numbered else "Prototypes")
    coordinates = map_coordinates(vectors)
    if is_numbered:
        _annotate(axes, coordinates, names)
    labels = [*prototype_labels, *text_labels]
    classes = list(dict.fromkeys(labels))
    code_of = {label: code for code, label in enumerate(classes)}
    codes = np.array([code_of[label] for label in labels])
    handles = _scatter_classes(axes, coordinates, codes, classes, M)
    if len(classes) <= _LEGEND:
        font = _font()
        lines = ["no label" if x is None else _fit(x, _LABEL, font) for x in classes]
        # With explicit handles, matplotlib lists names that start with "_" too.
        axes.legend(handles, [_escape(line) for line in lines], prop=font)
    return figure


def _annotate(axes: Any, coordinates: np.ndarray, names: Sequence[str]) -> None:
    """Write the numbers of prototypes, and the names of few, next to their markers."""
    font = _font()
    for j, name in enumerate(names):
        label = f"{j}  {_fit(name, _LABEL, font)}" if len(names) <= _NAMED else str(j)
        offset = {"xytext": (5, 5), "textcoords": "offset points"}
        axes.annotate(_escape(label), coordinates[j], fontproperties=font, **offset)


def _scatter_classes(
    axes: Any, coordinates: np.ndarray, codes: np.ndarray, classes: list[Any], M: int
) -> list[Any]:
    """Draw M prototypes and the texts after them; return one handle per class."""
    size = np.clip(_MARKER_SIZE * _NUMBERED / M, _SMALLEST_SIZE, _MARKER_SIZE)
    # zorder 2: prototypes are drawn over the texts of all classes.
    edge = {"edgecolor": "k", "linewidth": 1.0 if M <= _NUMBERED else 0.5, "zorder": 2}
    handles = []
    for code, label in enumerate(classes):
        color = f"C{code % 10}" if label is not None else "0.6"
        style = {"c": color, "marker": _MARKERS[code % len(_MARKERS)]}
        prototypes = coordinates[:M][codes[:M] == code]
        texts = coordinates[M:][codes[M:] == code]
        axes.scatter(*texts.T, s=12, alpha=0.4, **style)
        handles.append(axes.scatter(*prototypes.T, s=size, **style, **edge))
    return handles


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "plot needs matplotlib, which is not installed: pip install matplotlib."
        ) from error
    # pyplot.figure would keep the figure alive and needs a backend.
    return Figure(figsize=(width, height), layout="constrained")


def _font(size: str = "medium") -> Any:
    """Return the user's font, with fallbacks for characters that it lacks."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties, get_font_names

    installed = set(get_font_names())
    fallbacks = [name for name in _FALLBACKS if name in installed]
    return FontProperties(family=[*rcParams["font.family"], *fallbacks], size=size)


def _fit(text: Any, inches: float, font: Any) -> str:
    """Put a text, or a pair of texts, on one line of at most some inches.

    The width is measured, since 60 "W" are twice as wide as 60 average letters, and
    constrained layout fails if names take the width of the axes.
    """
    from matplotlib.textpath import text_to_path

    largest = np.array([72 * inches, 3 * font.get_size_in_points()])
    length = _NAME_LENGTH
    while True:
        line = _drawable(printable(shorten(text, length)), font)
        size = text_to_path.get_text_width_height_descent(line, font, ismath=False)[:2]
        excess = max(size / largest)  # in height too, since accents can be stacked
        if excess <= 1 or length == 1:
            return line
        length = max(1, min(length - 1, int(len(line) / excess)))


def _drawable(text: str, font: Any) -> str:
    """Replace characters that no font has, since matplotlib warns of each."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    files = [findfont(FontProperties(family=[name])) for name in font.get_family()]
    fonts = [get_font(file) for file in files]
    characters: list[str] = []
    base_fonts = fonts  # fonts with the last base character
    for character in text:
        matches = [f for f in fonts if f.get_char_index(ord(character))]
        is_combining = unicodedata.category(character) in _COMBINING
        if is_combining or character in _SKIN_TONES:
            # An accent is drawn by the font of its base character, or dropped.
            matches = [f for f in matches if f in base_fonts]
            if matches:
                characters.append(character)
                base_fonts = matches
            continue
        base_fonts = matches or [fonts[-1]]
        characters.append(character if matches else "\ufffd")
    return "".join(characters)


def _escape(line: str) -> str:
    """Escape "$", which starts a formula in matplotlib."""
    return line.replace("$", r"\$")


def quote_prototype(label: str, text: Any, unread: Sequence[str]) -> str:
    """Return the name of a prototype's class or value, and its text.

    Unread words come before the text, whose end is cut off.
    """
    words = shorten(", ".join(dict.fromkeys(unread)), _UNREAD_LENGTH)
    note = f" (not read: {words})" if unread else ""
    name = _fit(label, _LABEL, _font())
    return f"{name}{note}: {shorten(text, _NAME_LENGTH)}"


def set_xlabel(axes: Any, text: str) -> None:
    """Label the x axis, in a font that has the characters."""
    font = _font()
    axes.set_xlabel(_escape(_fit(text, _CAPTION, font)), fontproperties=font)


def draw_bars(axes: Any, names: Any, values: np.ndarray, colors: list[str]) -> None:
    """Draw horizontal bars with names; red ones are hatched."""
    rows = np.arange(len(values))
    # Hatches, since colors alone do not suffice.
    hatches = ["//" if color == _RED else "" for color in colors]
    axes.barh(rows, values, color=colors, hatch=hatches, edgecolor="white")
    axes.axvline(0, color="black", linewidth=0.8)
    font = _font()
    lines = [_escape(_fit(name, _NAME, font)) for name in names]
    axes.set_yticks(rows, lines, fontproperties=font)
    axes.invert_yaxis()
