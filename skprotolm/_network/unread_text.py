"""Text that the encoder does not read: truncated text and unknown words."""

from __future__ import annotations

import re

import numpy as np

from skprotolm._runtime import warn
from skprotolm.exceptions import TextTruncatedWarning, UnreadTextWarning

_N_EXAMPLES, _EXAMPLE_LENGTH = 3, 20  # unknown words in a warning, and characters
_WORD = re.compile(r"\S+")
# A letter, digit, symbol or private-use character. Marks and controls are invisible.
_VISIBLE = re.compile(
    r"[^\s\x00-\x1f\x7f-\x9f\xad\u0300-\u036f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    r"\ufe00-\ufe0f\ufeff]"
)
_MULTILINGUAL = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"


class UnreadText:
    """Counts over several texts, and the warnings about them."""

    def __init__(self) -> None:
        self.n_texts = 0
        self.n_truncated = 0  # texts
        self.truncated_size = 0  # characters of truncated texts
        self.removed_size = 0  # characters that truncation removed
        self.n_with_unknown = 0  # texts
        self.n_tokens = 0
        self.n_unknown = 0  # unknown tokens, and words without a token
        self.examples: dict[str, None] = {}  # a set in order of insertion

    def add(self, size: int, removed: int, n_tokens: int, unknown: list[str]) -> None:
        """Count one text.

        Parameters
        ----------
        size : int
            Characters of the text.
        removed : int
            Characters that truncation removes.
        n_tokens : int
            Content tokens, and words without a token.
        unknown : list of str
            The words of unknown tokens, and words without a token.
        """
        self.n_texts += 1
        if removed:
            self.n_truncated += 1
            self.truncated_size += size
            self.removed_size += removed
        self.n_with_unknown += len(unknown) > 0
        self.n_tokens += n_tokens
        self.n_unknown += len(unknown)
        for word in unknown:
            if len(self.examples) < _N_EXAMPLES and word.isprintable():
                self.examples[word[:_EXAMPLE_LENGTH]] = None

    def warn(self, max_length: int, max_positions: int | None) -> None:
        """Warn about truncated texts and about unknown words, once each."""
        if self.n_truncated:
            share = _percent(self.removed_size / self.truncated_size)
            warn(
                f"{self.n_truncated} of {self.n_texts} texts are longer than "
                f"max_length={max_length} tokens, and {share} of their characters are "
                f"not read. {_truncation_advice(max_length, max_positions)}",
                TextTruncatedWarning,
            )
        if self.n_with_unknown:
            share = _percent(self.n_unknown / self.n_tokens)
            examples = ", ".join(map(repr, self.examples))
            such_as = f", such as {examples}" if examples else ""
            warn(
                f"{self.n_with_unknown} of {self.n_texts} texts have words that the "
                f"backbone's tokenizer cannot read{such_as}: {share} of all tokens. "
                f"The model sees each of them as the same unknown token, or as "
                f"nothing. Use a backbone whose vocabulary contains them, for example "
                f"{_MULTILINGUAL!r}.",
                UnreadTextWarning,
            )


def _truncation_advice(max_length: int, max_positions: int | None) -> str:
    longer = "long_text='window' to read all of each text."
    if max_positions is None:
        return f"Increase max_length to read more, or set {longer}"
    if max_positions > max_length:
        return f"Set max_length={max_positions} to read more, or {longer}"
    return f"The backbone cannot read more at once: set {longer}"


def _percent(share: float) -> str:
    """Format a share; only exact shares become 0.0 % or 100.0 %."""
    percentage = f"{100 * share:.1f}"
    if percentage == "0.0":
        return "less than 0.1 %"
    if percentage == "100.0" and share < 1:
        return "more than 99.9 %"
    return f"{percentage} %"


def words_without_tokens(text: str, spans: np.ndarray, truncated: bool) -> list[str]:
    """Return visible words that have no token, such as replacement characters.

    Parameters
    ----------
    text : str
    spans : ndarray of shape (T, 2)
        Characters of each content token.
    truncated : bool
        Whether text outside the first and last token may have been truncated; words
        there do not count.
    """
    if text.isascii():  # tokenizers drop only control characters of ASCII
        return []
    start = spans[:, 0].min(initial=len(text)) if truncated else 0
    end = spans[:, 1].max(initial=0) if truncated else len(text)
    starts, ends = np.sort(spans[:, 0]), np.sort(spans[:, 1])
    words = []
    for match in _WORD.finditer(text, start, end):
        t = np.searchsorted(ends, match.start(), side="right")
        has_no_token = t == len(starts) or starts[t] >= match.end()
        if has_no_token and _VISIBLE.search(match[0]):
            words.append(match[0])
    return words
