"""Token vectors of texts: from the encoder each time, or stored where it is frozen."""

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

_IN_MEMORY = 2**30  # bytes of token vectors; more are memory-mapped from a file


class ReadTexts(Protocol):
    """Texts whose token vectors can be read."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per text, (n,)."""

    def read(self, encoder: TextEncoder, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return token vectors (B, T, H) and the mask of own tokens (B, T)."""


class EncodedTexts:
    """Texts that the encoder runs on whenever they are read."""

    def __init__(self, tokenized: TokenizedTexts, *, bf16: bool):
        self.tokenized = tokenized
        self.bf16 = bf16

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per text, special tokens included."""
        return self.tokenized.lengths

    def read(self, encoder: TextEncoder, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Run the encoder on some texts."""
        batch = encoder.tokenizer.collate(self.tokenized, rows).to(encoder.device)
        return encoder(batch, bf16=self.bf16), batch["own"]


class StoredTexts:
    """Texts that a frozen encoder has run on once: the vectors of their own tokens.

    Parameters
    ----------
    tokenized : TokenizedTexts
    encoder : TextEncoder
        Gives the width and the precision of the vectors.
    """

    def __init__(self, tokenized: TokenizedTexts, encoder: TextEncoder):
        self.own = tokenized.own
        self.lengths = np.array([int(own.sum()) for own in tokenized.own])
        self._ends = np.cumsum(self.lengths)
        shape = (int(self.lengths.sum()), encoder.hidden_size)
        dtype = torch.empty(0, dtype=encoder.dtype).numpy().dtype
        self._vectors = _empty(shape, dtype)

    def store(self, rows: np.ndarray, h: Tensor) -> None:
        """Keep the token vectors (B, T, H) of some texts, special tokens included."""
        for row, vectors in zip(rows.tolist(), h.cpu().numpy(), strict=True):
            own = self.own[row]
            self._vectors[self._slice(row)] = vectors[: len(own)][own]

    def _slice(self, row: int) -> slice:
        return slice(int(self._ends[row] - self.lengths[row]), int(self._ends[row]))

    def read(self, encoder: TextEncoder, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return what was stored of some texts; the rest is 0 and masked."""
        columns = np.arange(self.lengths[rows].max())
        own = columns < self.lengths[rows, None]  # (B, T)
        places = (self._ends - self.lengths)[rows, None] + columns
        h = self._vectors[np.where(own, places, 0)]
        h[~own] = 0
        vectors, mask = torch.from_numpy(np.asarray(h)), torch.from_numpy(own)
        return vectors.to(encoder.device), mask.to(encoder.device)


def _empty(shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """Return an array in memory, or of a file that is gone as soon as the array is."""
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes <= _IN_MEMORY:
        return np.empty(shape, dtype)
    with TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # or a full disk would end the process
            try:
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"The token vectors of the texts take {n_bytes / 1e9:.1f} GB in a "
                    f"temporary file, and {gettempdir()} has no room for it "
                    f"({error.strerror}); set TMPDIR to a larger folder",
                ) from error
        return np.memmap(file, dtype, shape=shape)
