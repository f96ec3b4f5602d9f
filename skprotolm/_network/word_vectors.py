"""Words of sentences as units: sentences are read, and words are pooled.

Each word of a window is pooled as if it were a window, so that a word whose pieces
stand in two windows is merged as a long text is.

Letters: W windows, T tokens of a window, H hidden size, U words of windows, P pieces.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from skprotolm._network.encoder import TextEncoder
from skprotolm._network.token_vectors import ReadTexts
from skprotolm._network.tokenized import TokenizedTexts
from skprotolm._network.windows import WindowIndex, WindowNumbers, list_windows


class ReadWords:
    """The words of all sentences, as rows of their pieces.

    Parameters
    ----------
    source : ReadTexts
        Of the sentences.
    tokenized : TokenizedTexts
        The sentences.
    """

    def __init__(self, source: ReadTexts, tokenized: TokenizedTexts):
        self.source = source
        self.lengths = source.lengths
        self.n_windows = source.n_windows
        self.n_readers = source.n_readers
        self._numbers = WindowNumbers(self.n_windows)
        self._pieces: list[np.ndarray] = []  # of each window: columns of `source`,
        self._words: list[np.ndarray] = []  # and the word of each
        windows = list_windows(np.arange(len(tokenized)), self.n_windows)
        starts = np.cumsum(tokenized.n_words) - tokenized.n_words
        for row, number in zip(*map(np.ndarray.tolist, windows), strict=True):
            tokens = tokenized[row]
            of_words = tokens.tokens_of_words()
            counts = tokens.weights(number) > 0
            columns = np.full(len(tokens.ids), -1)
            columns[tokens.positions(number)[counts]] = source.columns(counts)
            pieces = columns[of_words.tokens]
            is_here = pieces >= 0
            self._pieces.append(pieces[is_here])
            self._words.append(starts[row] + of_words.words[is_here])

    def columns(self, counts: np.ndarray) -> np.ndarray:
        """Return the columns of tokens that count, as `source` has them."""
        return self.source.columns(counts)

    def units(self, windows: WindowIndex) -> np.ndarray:
        """Return the word of each row that `read` returns, (U,)."""
        words = [self._words[w] for w in self._numbers.of(*windows)]
        return np.concatenate([of_window[_starts(of_window)] for of_window in words])

    def read(
        self, encoder: TextEncoder, rows: np.ndarray, numbers: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the tokens (U, P, H) of the words of windows, and weights (U, P)."""
        h, weights = self.source.read(encoder, rows, numbers)
        T = weights.shape[1]
        windows = self._numbers.of(rows, numbers).tolist()
        pieces = np.concatenate(
            [self._pieces[w] + T * row for row, w in enumerate(windows)]
        )
        starts = np.concatenate([_starts(self._words[w]) for w in windows])
        row_of_piece = np.cumsum(starts) - 1
        firsts = np.flatnonzero(starts)
        column_of_piece = np.arange(len(pieces)) - firsts[row_of_piece]
        shape = (len(firsts), int(column_of_piece.max(initial=0)) + 1)
        indices, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=bool)
        indices[row_of_piece, column_of_piece] = pieces
        mask[row_of_piece, column_of_piece] = True
        index = torch.from_numpy(indices).to(h.device)
        of_pieces = h.flatten(0, 1).index_select(0, index.flatten())
        return (
            of_pieces.view(*shape, h.shape[2]),
            weights.flatten()[index] * torch.from_numpy(mask).to(weights),
        )


def _starts(words: np.ndarray) -> np.ndarray:
    """Return which pieces of a window are the first ones of their words, (P,) bool."""
    return np.diff(words, prepend=-1) != 0


def read_units(source: ReadTexts, tokenized: TokenizedTexts) -> ReadTexts:
    """Return what is predicted of texts: the texts, or the words of sentences."""
    is_of_words = any(tokens.words is not None for tokens in tokenized)
    return ReadWords(source, tokenized) if is_of_words else source
