"""An explanation as lines of text, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from skprotolm._display.folding import MAX_SENTENCES, fold, starts
from skprotolm._display.formatting import (
    amount,
    amounts,
    class_name,
    compared,
    decimal,
    one_line,
    percent,
    printable,
    shorten,
    summands,
    text_of_class,
)
from skprotolm._display.pieces import STRONGEST_SHARE, Piece, split_sides
from skprotolm._tasks.units import Unit

_LISTED = 3  # prototypes if top_k is None
_WORDS = 4  # words listed on a line
_SENTENCES, _MANY_SENTENCES = 2, 4  # listed, for texts of so many
_LEADING, _SENTENCE_WORDS = 5, 2  # sentences of a long text, and words of each
_SIDES = ("first", "second")  # texts of a pair
_TEXT_LENGTH = 300  # characters of the explained text
_QUOTE_LENGTH = 70  # characters of a prototype's text
_RESET, _STRIKE = "\x1b[0m", "\x1b[9m"
# Pale to strong, from the 256-color palette, readable under black letters.
_POSITIVE = (194, 157, 120, 83)
_NEGATIVE = (224, 217, 210, 203)


def explanation_text(e: Any, *, color: bool) -> str:
    """Return an `Explanation` as lines of text."""
    head = f"{compared(e.target, e.against, e.unit)}: {percent(e.probability)}"
    if e.against is not None:
        head += f" to {percent(e.probabilities[e.against])}"
    if e.target != e.prediction:
        head += f" (predicted: {class_name(e.prediction, e.unit)})"
    lines = [
        *novelty_lines(e),
        head,
        *sentence_lines(e, 2),
        *_contribution_lines(e),
        *_word_lines(e),
        *unread_lines(e),
    ]
    return "\n".join([shown_text(e, color=color), *map(one_line, lines)])


def shown_text(e: Any, *, color: bool) -> str:
    """Return the explained text: all of it with colored words, or its start."""
    if not color:
        return printable(shorten(e.text, _TEXT_LENGTH))
    plain = replace(e, top_k=1)  # otherwise a dict has a record per prototype
    return colored(plain.to_dict())


def novelty_lines(e: Any) -> list[str]:
    """Warn that even the nearest prototype is not similar."""
    if not e.is_unlike:
        return []
    nearest = e.unit.similarity.format(e.nearest_similarity)
    return [f"unlike the training {e.unit.quoted}s (nearest {nearest})"]


def colored(explanation: dict[str, Any]) -> str:
    """Color the words for a terminal: green is for the target, red against it.

    Sentences of a long text that do not matter are counted.
    """
    offsets = explanation["sentence_offsets"]
    return " | ".join(
        "".join(
            f"[… {run.n_folded} sentences] "
            if run.n_folded
            else "".join(map(_color, run.pieces))
            for run in fold(side, starts(offsets, segment))
        )
        for segment, side in enumerate(split_sides(explanation))
    )


def _color(piece: Piece) -> str:
    word, strength = printable(piece.text), piece.strength
    if piece.is_unknown:
        return f"{_STRIKE}{word}{_RESET}"
    if not piece.counts:
        return word
    palette = _POSITIVE if strength > 0 else _NEGATIVE
    shade = palette[min(int(abs(strength) * len(palette)), len(palette) - 1)]
    return f"\x1b[30;48;5;{shade}m{word}{_RESET}"


# A part of a sum: its contribution, and what it is of.
Summand = tuple[float, str]


def summand_lines(parts: Sequence[Summand], unit: Unit) -> list[str]:
    """Return a line per part of a sum; as shown, they add up."""
    shown = amounts([contribution for contribution, _ in parts], unit)
    return [
        f"{value:>10}  {text}" for value, (_, text) in zip(shown, parts, strict=True)
    ]


def _contribution_lines(e: Any) -> list[str]:
    """List the contributions that sum to the total, then those outside of the sum."""
    others = e.order
    explained = compared(e.target, e.against, e.unit)
    if not e.unit.sums_target_only:
        bias = e.unit.bias if e.against is None else "difference of the biases"
        parts = [*_listed(e, others, "because"), (e.base_value, bias)]
        total = _total(e, e.total, e.unit.total.format(target=explained))
        return [*summand_lines(parts, e.unit), total]
    lines = []
    for label, link in ((e.target, "because"), (e.against, "although")):
        if label is not None:
            is_label = e.prototype_labels[others] == label
            parts = _listed(e, others[is_label], link, label)
            lines += summand_lines(parts, e.unit)
            lines.append(_total(e, e.probabilities[label], class_name(label, e.unit)))
            others = others[~is_label]
    return [*lines, *summand_lines(_others(e, others), e.unit)]


def _others(e: Any, rows: np.ndarray) -> list[Summand]:
    """Return the first prototype of other classes, unless two are compared, and all."""
    parts = []
    if e.against is None:
        parts = _quotes(e, rows[:1], "although")
        rows = rows[1:]
    if rows.size:
        more = "more " if e.against is None else ""
        count = f"{len(rows)} {more}{e.unit.quoted}{plural(rows)}"
        parts.append((_sum(e, rows), f"{count} of other {e.unit.groups}"))
    return parts


def _listed(e: Any, rows: np.ndarray, link: str, label: Any = None) -> list[Summand]:
    """Quote the first prototypes of a sum, and count the others."""
    listed, unlisted = np.split(rows, [e.top_k or _LISTED])
    parts = _quotes(e, listed, link)
    if unlisted.size:
        noun = f"prototype{plural(unlisted)}"
        if label is not None:
            noun = text_of_class(label, e.unit, len(unlisted))
        parts.append((_sum(e, unlisted), f"{len(unlisted)} other {noun}"))
    return parts


def _sum(e: Any, rows: Any) -> float:
    return float(e.contributions[rows].sum())


def _total(e: Any, total: float, name: str) -> str:
    return f"{f'= {amount(total, e.unit)}':>10}  {name}"


def plural(rows: np.ndarray) -> str:
    return "" if len(rows) == 1 else "s"


def _quotes(e: Any, rows: np.ndarray, link: str) -> list[Summand]:
    """Quote prototypes, each with its contribution."""
    parts = []
    for j, label in zip(rows, e.prototype_labels[rows].tolist(), strict=True):
        reason = e.unit.reason if e._reads_like[j] else e.unit.reason_if_unlike
        rivals = e.similarities[e.prototype_labels == label]
        rank = "nearest" if e.similarities[j] == rivals.max() else "next"
        text = text_of_class(label, e.unit)
        joined = reason.format(link=link, rank=rank, text=text)
        parts.append((_sum(e, [j]), f"{joined} {quoted(e, j)}"))
    return parts


def quoted(e: Any, j: int) -> str:
    """Quote the text of a prototype, with its similarity."""
    text = shorten(e.prototype_texts[j], _QUOTE_LENGTH)
    notes = [e.unit.similarity.format(e.similarities[j])]
    if e.prototype_unread[j]:
        notes.append(f"not read: {enumerate_words(e.prototype_unread[j])}")
    return f'"{text}" ({"; ".join(notes)})'


def enumerate_words(words: Sequence[str]) -> str:
    """Join the first distinct words."""
    quoted = [f'"{shorten(word, 20)}"' for word in dict.fromkeys(words)]
    return ", ".join(quoted[:_WORDS]) + (", …" if len(quoted) > _WORDS else "")


def _word_lines(e: Any) -> list[str]:
    """Return the decomposition of the log-odds and the words of the highest scores."""
    of = purpose = ""
    if e.against is not None:
        explained = compared(e.target, e.against, e.unit)
        of, purpose = f" of {explained}", f" for {explained}"
    return word_lines(e, f"log-odds{of}", purpose, 2, 2)


def word_lines(
    e: Any, explained: str, purpose: str, decimals: int, digits: int
) -> list[str]:
    """Return the sum over words, and the words of the highest scores.

    The sum is shown with some `decimals`, and scores of words with `digits` of them.
    """
    if e.word_scores is None:
        return []
    lines = []
    if e.unit.has_token_sums:
        parts = summands([e.base_value, e.token_scores.sum()], decimals)
        base, words, total = (
            decimal(value, decimals, "+") for value in (*parts, e.explained)
        )
        lines.append(f"  {explained}: {base} (base) {words} (words) = {total}")
    listed = {"words": _strongest(_words(e), e.word_scores, _WORDS, digits)}
    if _MANY_SENTENCES <= len(e.sentences) <= MAX_SENTENCES:
        sentences = _strongest(_sentences(e), e.sentence_scores, _SENTENCES, digits)
        listed = {"sentences": sentences, **listed}
    for noun, names in listed.items():
        if names:
            lines.append(f"  {noun}{purpose} ({e.token_method}): {names}")
    return lines


def sentence_lines(e: Any, digits: int) -> list[str]:
    """Lead with the sentences of a long text that matter, and their words.

    With the other sentences, which are summed, they sum to what the words sum to.
    """
    if e.sentence_scores is None or len(e.sentences) <= MAX_SENTENCES:
        return []
    scores, words = e.sentence_scores, e.word_scores
    order = np.argsort(-np.abs(scores), kind="stable")
    names, word_names, ids = _sentences(e), e.words, e.sentence_ids
    least = STRONGEST_SHARE * np.abs(words).max(initial=0)
    lines = [f"  sentences ({e.token_method})"]
    for i in order[:_LEADING].tolist():
        inside = np.flatnonzero((ids == i) & (np.abs(words) >= least))
        strongest = inside[np.argsort(-np.abs(words[inside]), kind="stable")]
        listed = ", ".join(
            f'"{word_names[w]}" {decimal(words[w], digits, "+")}'
            for w in strongest[:_SENTENCE_WORDS].tolist()
        )
        score = decimal(scores[i], digits, "+")
        lines.append(f"{score:>10}  {names[i]}" + (f": {listed}" if listed else ""))
    others = order[_LEADING:]
    rest = decimal(scores[others].sum(), digits, "+")
    return [*lines, f"{rest:>10}  {len(others)} other sentences"]


def _words(e: Any) -> list[str]:
    """Quote the words, with notes about their text of a pair, and if not read."""
    return [
        _noted(e, word, segment, *(["not read"] if is_unread else []))
        for word, segment, is_unread in zip(
            e.words, e.word_offsets[:, 0], e.word_unread, strict=True
        )
    ]


def _sentences(e: Any) -> list[str]:
    """Quote the sentences, with a note about their text of a pair."""
    pairs = zip(e.sentences, e.sentence_offsets[:, 0], strict=True)
    return [_noted(e, shorten(s, _QUOTE_LENGTH), segment) for s, segment in pairs]


def _noted(e: Any, part: str, segment: int, *notes: str) -> str:
    if not isinstance(e.text, str):
        notes = (_SIDES[segment], *notes)
    return f'"{part}"' + (f" ({', '.join(notes)})" if notes else "")


def _strongest(names: Sequence[str], scores: np.ndarray, n: int, decimals: int) -> str:
    """List at most n names with their scores, without those too weak to count."""
    strengths = np.abs(scores)
    counts = strengths >= STRONGEST_SHARE * strengths.max()
    order = np.argsort(-strengths, kind="stable")
    order = order[counts[order] & (strengths[order] > 0)]
    listed = [f"{names[i]} {decimal(scores[i], decimals, '+')}" for i in order[:n]]
    return ", ".join([*listed, "…"] if len(order) > n else listed)


def unread_lines(e: Any) -> list[str]:
    """Name the words that the tokenizer cannot read, and the size of a cut-off part."""
    lines = []
    if e.word_unread.any():
        pairs = zip(e.words, e.word_unread, strict=True)
        words = [word for word, is_unread in pairs if is_unread]
        lines.append(f"  not read by the tokenizer: {enumerate_words(words)}")
    if e.read_fraction < 1:
        unread = percent(1 - e.read_fraction)
        lines.append(f"  not read, since too long: {unread} of the text")
    return lines
