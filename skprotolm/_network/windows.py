"""Windows: the overlapping parts of a long text that an encoder reads one by one.

Neighbors of a token in its window are its context. Each token counts in one window, in
which it is farthest from an edge; in other windows it is only context of others. The
tokens that are in all windows of a pair, those of its shorter text, count in all of
them, each time as one of K.

Letters: T tokens of a text, K windows of a text, W windows of several texts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Of the tokens that a window has of a long text, the fraction that the next has, too.
_OVERLAP = 0.25
# The fraction of `max_length` that a window must have for the longer text of a pair.
# The less it has, the more windows repeat the shorter text.
_LEAST_AVAILABLE = 0.25


class WindowIndex(NamedTuple):
    """W windows of several texts, text after text."""

    rows: np.ndarray  # (W,), the text of each window
    numbers: np.ndarray  # (W,), which of the windows of this text it is

    def split(self, size: int) -> list[WindowIndex]:
        """Split the windows into parts of at most `size`."""
        starts = range(0, len(self.rows), size)
        return [WindowIndex(*(a[i : i + size] for a in self)) for i in starts]


class TextWindows(NamedTuple):
    """The windows of a text that is longer than `max_length`.

    The tokens before `first` and those from `last` on are in all windows: special
    tokens, the prompt, and the other text of a pair.
    """

    first: int
    last: int
    starts: np.ndarray  # (K,), of the other tokens
    stops: np.ndarray  # (K,)
    bounds: np.ndarray  # (K + 1,), the tokens that count in a window

    def positions(self, number: int, n_tokens: int) -> np.ndarray:
        """Return which tokens of the text a window has, in their order."""
        return np.r_[
            0 : self.first,
            self.starts[number] : self.stops[number],
            self.last : n_tokens,
        ]

    def weights(self, number: int, content_mask: np.ndarray) -> np.ndarray:
        """Return how much the tokens of a window count in it, float32.

        Over all windows, the weights of each content token sum to 1.
        """
        positions = self.positions(number, len(content_mask))
        start, stop = self.bounds[number : number + 2]
        counts = (positions >= start) & (positions < stop)
        is_shared = (positions < self.first) | (positions >= self.last)
        weights = np.where(is_shared, 1 / len(self.starts), counts)
        return (weights * content_mask[positions]).astype(np.float32)

    def around(self, tokens: np.ndarray) -> TextWindows:
        """Return the windows in which at least one of the given tokens counts."""
        is_shared = (tokens < self.first) | (tokens >= self.last)
        if is_shared.any():
            return self
        low, high = np.searchsorted(self.bounds, tokens[[0, -1]], side="right")
        kept = slice(low - 1, high)
        return self._replace(
            starts=self.starts[kept],
            stops=self.stops[kept],
            bounds=self.bounds[low - 1 : high + 1],
        )


class PairTooLongError(ValueError):
    """A window cannot hold the shorter text of a pair and enough of the longer one."""


def cut_windows(
    content_mask: np.ndarray, segments: np.ndarray, max_length: int, is_causal: bool
) -> TextWindows | None:
    """Cut the tokens of a text into windows; None if it fits into one.

    The windows have equal lengths, up to a token. Of a pair, the longer text is cut.

    Parameters
    ----------
    content_mask : ndarray of shape (T,), bool
    segments : ndarray of shape (T,), int
        The text of a pair that each token belongs to, 0 or 1.
    max_length : int
        Tokens of a window, special tokens included.
    is_causal : bool
        Whether a token reads only the tokens before it, so that the end of a window is
        no edge: a token then counts in the first window that has it.
    """
    n_tokens = len(content_mask)
    if n_tokens <= max_length:
        return None
    longer = int(2 * segments[content_mask].sum() > content_mask.sum())
    tokens = np.flatnonzero(content_mask & (segments == longer))
    first, last = int(tokens[0]), int(tokens[-1]) + 1
    n_cut = last - first
    available = max_length - (n_tokens - n_cut)
    has_other = bool((content_mask & (segments != longer)).any())
    if available < (_LEAST_AVAILABLE * max_length if has_other else 1):
        raise PairTooLongError
    overlap = int(_OVERLAP * available)
    K = -(-(n_cut - overlap) // (available - overlap))
    size = -(-(n_cut + (K - 1) * overlap) // K)
    starts = first + np.arange(K) * (n_cut - size) // (K - 1)
    stops = starts + size
    ends = stops[:-1] if is_causal else (stops[:-1] + starts[1:] + 1) // 2
    return TextWindows(first, last, starts, stops, np.r_[first, ends, last])


def list_windows(
    rows: np.ndarray,
    n_windows: np.ndarray,
    drawn: dict[int, np.ndarray] | None = None,
) -> WindowIndex:
    """List the windows of some texts, text after text.

    Parameters
    ----------
    rows : ndarray of shape (B,), int
    n_windows : ndarray of shape (n,), int
        Of all texts.
    drawn : dict of int to ndarray of int, default=None
        The windows of those texts that only have some, see `draw_windows`.
    """
    drawn = drawn or {}
    numbers = [drawn.get(row, np.arange(n_windows[row])) for row in rows.tolist()]
    return WindowIndex(
        np.repeat(rows, list(map(len, numbers))), np.concatenate(numbers)
    )


def number_units(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number units in the order in which they are read first.

    Parameters
    ----------
    units : ndarray of shape (W,), int
        The text, or word, of each window.

    Returns
    -------
    distinct : ndarray of shape (B,), int
        The units, in that order.
    numbers : ndarray of shape (W,), int
        Position of each window's unit among them.
    """
    distinct, firsts, ids = np.unique(units, return_index=True, return_inverse=True)
    order = np.argsort(firsts)
    return distinct[order], np.argsort(order)[ids]


def draw_windows(
    n_windows: np.ndarray, most: int, rng: np.random.RandomState
) -> dict[int, np.ndarray]:
    """Draw some windows of each text that has more than `most`, by the text's row."""
    return {
        row: np.sort(rng.permutation(n_windows[row])[:most])
        for row in np.flatnonzero(n_windows > most).tolist()
    }


class WindowNumbers:
    """Numbers of the windows of all texts, from 0 to W − 1.

    Parameters
    ----------
    n_windows : ndarray of shape (n,), int
        Windows per text.
    """

    def __init__(self, n_windows: np.ndarray):
        self.first = np.cumsum(n_windows) - n_windows  # window of each text

    def of(self, rows: np.ndarray, numbers: np.ndarray | None) -> np.ndarray:
        """Return the numbers of windows of texts; None stands for the first ones."""
        return self.first[rows] + (0 if numbers is None else numbers)
