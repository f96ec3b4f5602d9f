"""An explanation as lines of text, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skprotolm._display.html import Piece, one_line, percent, pieces, printable, shorten
from skprotolm._records.words import unread as beyond_words

_LISTED = 3  # prototypes of the target that are listed, unless top_k says
_WORDS = 4  # words that are named
_TEXT_LENGTH = 300  # characters of the text explained
_QUOTE_LENGTH = 70  # characters of a prototype's text
_RESET, _STRUCK = "\x1b[0m", "\x1b[9m"
# Pale to strong, from the 256-colour cube, readable under black letters.
_FOR = (194, 157, 120, 83)
_AGAINST = (224, 217, 210, 203)


def explanation_text(e: Any, *, color: bool) -> str:
    """Write an `Explanation` as lines of text."""
    text = coloured(e.to_dict()) if color else printable(shorten(e.text, _TEXT_LENGTH))
    head = f"{e.target}: {percent(e.probability)}"
    if e.target != e.prediction:
        head += f" (predicted is {e.prediction})"
    lines = _share_lines(e) if e.space == "probability" else _score_lines(e)
    if e.word_scores is not None:
        lines.append(_word_line(e))
    pairs = zip(e.words, e.word_unread, strict=True)
    unread = [word for word, is_unread in pairs if is_unread]
    if unread:
        lines.append(f"  not read by the tokenizer: {_listed(unread)}")
    beyond = beyond_words(e.text, e.word_offsets.tolist())
    if beyond:
        n_beyond = sum(end - start for _, start, end in beyond)
        n_all = len(e.text) if isinstance(e.text, str) else sum(map(len, e.text))
        lines.append(
            f"  not read, since too long: {percent(n_beyond / n_all)} of the text"
        )
    return "\n".join([text, *map(one_line, [head, *lines])])


def coloured(explanation: dict[str, Any]) -> str:
    """Paint words for a terminal: green speaks for the class, red against it."""
    return "".join(map(_paint, pieces(explanation)))


def _paint(piece: Piece) -> str:
    word, strength = printable(piece.text), piece.strength
    if piece.is_unknown:
        return f"{_STRUCK}{word}{_RESET}"
    if abs(strength) < 0.1:
        return word
    palette = _FOR if strength > 0 else _AGAINST
    shade = palette[min(int(abs(strength) * len(palette)), len(palette) - 1)]
    return f"\x1b[30;48;5;{shade}m{word}{_RESET}"


def _share_lines(e: Any) -> list[str]:
    """List the shares that sum to the probability, then those of the other classes."""
    is_own = e.prototype_labels == e.target
    order = np.argsort(-e.contributions, kind="stable")
    own, others = order[is_own[order]], order[~is_own[order]]
    n_listed = e.top_k or _LISTED
    because, although = "because it reads like", "although it reads like"
    lines = [f"{_sum(e, [j])}  {because} {_quoted(e, j)}" for j in own[:n_listed]]
    if len(own) > n_listed:
        rest = own[n_listed:]
        lines.append(f"{_sum(e, rest)}  {_count(rest, f'other {e.target} text')}")
    lines.append(f"{'= ' + percent(e.probability):>10}  {e.target}")
    if others.size:
        lines.append(f"{_sum(e, others[:1])}  {although} {_quoted(e, others[0])}")
    if len(others) > 1:
        rest = others[1:]
        lines.append(f"{_sum(e, rest)}  {_count(rest, 'more text')} of other classes")
    assert e.token_scores is not None  # the mixture scores tokens always
    words = e.token_scores.sum()
    lines.append(
        f"  log-odds: {e.base_value:+.2f} (base) {words:+.2f} (words) "
        f"= {e.log_odds:+.2f}"
    )
    return lines


def _sum(e: Any, rows: Any) -> str:
    return f"{percent(float(e.contributions[rows].sum())):>10}"


def _count(rows: Any, noun: str) -> str:
    return f"{len(rows)} {noun}{'' if len(rows) == 1 else 's'}"


def _quoted(e: Any, j: int) -> str:
    label = e.prototype_labels[j : j + 1].tolist()[0]
    text = shorten(e.prototype_texts[j], _QUOTE_LENGTH)
    unread = e.prototype_unread[j]
    tail = f"; not read: {_listed(unread)}" if unread else ""
    return f'the {label} text "{text}" (cosine {e.similarities[j]:.2f}{tail})'


def _listed(words: Sequence[str]) -> str:
    """List some words, at most so many as a line holds."""
    named = [f'"{shorten(word, 20)}"' for word in dict.fromkeys(words)]
    return ", ".join(named[:_WORDS]) + (", …" if len(named) > _WORDS else "")


def _word_line(e: Any) -> str:
    """Name the words of the strongest scores."""
    order = np.argsort(-np.abs(e.word_scores), kind="stable")
    named = [
        f'"{e.words[w]}"{" (not read)" if e.word_unread[w] else ""} '
        f"{e.word_scores[w]:+.2f}"
        for w in order[:_WORDS]
    ]
    return (
        f"  words ({e.token_method}): "
        + ", ".join(named)
        + (", …" if len(order) > _WORDS else "")
    )


def _score_lines(e: Any) -> list[str]:
    """List what prototypes add to the score; under "proto-lm" any may be negative."""
    listed = e.prototypes[: e.top_k or _LISTED]
    lines = [
        f"  {p.contribution:+8.3f}  from the {p.label} text "
        f'"{shorten(p.text, _QUOTE_LENGTH)}" (similarity {p.similarity:.3f})'
        for p in listed
    ]
    n_others = len(e.contributions) - len(listed)
    if n_others:
        rest = e.contributions.sum() - sum(p.contribution for p in listed)
        lines.append(f"  {rest:+8.3f}  {_count(range(n_others), 'other prototype')}")
    lines.append(f"  {e.base_value:+8.3f}  bias of the class")
    lines.append(f"  {e.score:+8.3f}  score of {e.target}")
    return lines
