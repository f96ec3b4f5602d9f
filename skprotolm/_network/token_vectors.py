"""Token vectors of texts: computed at each read, or stored for a frozen encoder."""

from __future__ import annotations

import math
import os
from tempfile import TemporaryFile, gettempdir
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from skprotolm._network.encoder import TextEncoder
from skprotolm._network.tokenizer import TokenizedTexts
from skprotolm._network.windows import WindowIndex, list_windows


class ReadTexts(Protocol):
    """Texts whose token vectors can be read, window by window.

    What is predicted are their units: the texts themselves, or their words.
    """

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per text, (n,)."""

    @property
    def n_windows(self) -> np.ndarray:
        """Windows per text, (n,)."""

    def read(
        self, encoder: TextEncoder, rows: np.ndarray, numbers: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return token vectors (B, T, H) of windows, and weights of tokens (B, T).

        `rows` are the texts, `numbers` which of their windows; None for the first ones.
        Of words, each row is a word of a window.
        """

    def units(self, windows: WindowIndex) -> np.ndarray:
        """Return the unit of each row that `read` returns."""

    def columns(self, counts: np.ndarray) -> np.ndarray:
        """Return which columns of a window hold the tokens that count in it.

        `counts` (T,) tells this of the tokens of the window.
        """


class EncodedTexts:
    """Texts that the encoder runs on at each read."""

    def __init__(self, tokenized: TokenizedTexts, *, bf16: bool):
        self.tokenized = tokenized
        self.bf16 = bf16
        self.lengths = tokenized.lengths
        self.n_windows = tokenized.n_windows

    def read(
        self, encoder: TextEncoder, rows: np.ndarray, numbers: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the encoder on windows of the texts of the given rows."""
        batch = encoder.tokenizer.collate(self.tokenized, rows, numbers)
        batch = batch.to(encoder.device)
        return encoder(batch, bf16=self.bf16), batch["weights"]

    def units(self, windows: WindowIndex) -> np.ndarray:
        """Return the texts of windows."""
        return windows.rows

    def columns(self, counts: np.ndarray) -> np.ndarray:
        """Return the positions of the tokens that count."""
        return np.flatnonzero(counts)


class StoredTexts:
    """Stored vectors of the tokens that count, for a frozen encoder that runs once.

    Parameters
    ----------
    tokenized : TokenizedTexts
    encoder : TextEncoder
        Determines the width and the precision of the vectors.
    max_memory : int, default=2**30
        Bytes of token vectors in memory; more are memory-mapped from a temporary file.
    """

    def __init__(
        self, tokenized: TokenizedTexts, encoder: TextEncoder, max_memory: int = 2**30
    ):
        self.n_windows = tokenized.n_windows
        self._first = np.cumsum(self.n_windows) - self.n_windows  # window of each text
        every = list_windows(np.arange(len(tokenized)), self.n_windows)
        self._weights = [
            tokenized.weights(row, number)
            for row, number in zip(*map(np.ndarray.tolist, every), strict=True)
        ]
        self._lengths = np.array([np.count_nonzero(w) for w in self._weights])
        self.lengths = np.add.reduceat(self._lengths, self._first)
        self._ends = np.cumsum(self._lengths)
        shape = (int(self._lengths.sum()), encoder.hidden_size)
        dtype = torch.empty(0, dtype=encoder.dtype).numpy().dtype
        is_small = math.prod(shape) * dtype.itemsize <= max_memory
        self._vectors = np.empty(shape, dtype) if is_small else _map_file(shape, dtype)

    def _windows(self, rows: np.ndarray, numbers: np.ndarray | None) -> np.ndarray:
        """Return positions among the windows of all texts."""
        return self._first[rows] + (0 if numbers is None else numbers)

    def store(
        self, rows: np.ndarray, h: Tensor, numbers: np.ndarray | None = None
    ) -> None:
        """Store the tokens that count, of token vectors (B, T, H)."""
        windows = self._windows(rows, numbers).tolist()
        for window, vectors in zip(windows, h.cpu().numpy(), strict=True):
            weights, end = self._weights[window], self._ends[window]
            start = end - self._lengths[window]
            self._vectors[start:end] = vectors[: len(weights)][weights > 0]

    def read(
        self, encoder: TextEncoder, rows: np.ndarray, numbers: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the stored vectors of the given windows, padded with zeros."""
        windows = self._windows(rows, numbers)
        lengths = self._lengths[windows]
        columns = np.arange(lengths.max())
        mask = columns < lengths[:, None]  # (B, T)
        indices = (self._ends[windows] - lengths)[:, None] + columns
        h = self._vectors[np.where(mask, indices, 0)]
        h[~mask] = 0
        weights = np.zeros(mask.shape, dtype=np.float32)
        stored = [self._weights[window] for window in windows.tolist()]
        weights[mask] = np.concatenate([w[w > 0] for w in stored])
        device = encoder.device
        vectors = torch.from_numpy(np.asarray(h)).to(device)
        return vectors, torch.from_numpy(weights).to(device)

    def units(self, windows: WindowIndex) -> np.ndarray:
        """Return the texts of windows."""
        return windows.rows

    def columns(self, counts: np.ndarray) -> np.ndarray:
        """Return the first columns: other tokens are not stored."""
        return np.arange(np.count_nonzero(counts))


def _map_file(shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """Return an array in a temporary file, which is deleted with the array."""
    n_bytes = math.prod(shape) * dtype.itemsize
    with TemporaryFile() as file:
        # Without allocation, writing to a full disk kills the process.
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"The token vectors of the texts need {n_bytes / 1e9:.1f} GB in a "
                    f"temporary file, and {gettempdir()} does not have enough space "
                    f"({error.strerror}); set TMPDIR to a larger folder",
                ) from error
        return np.memmap(file, dtype, shape=shape)
