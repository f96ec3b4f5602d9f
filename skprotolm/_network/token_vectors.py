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


class ReadTexts(Protocol):
    """Texts whose token vectors can be read."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per text, (n,)."""

    def read(self, encoder: TextEncoder, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return token vectors (B, T, H) and the mask of content tokens (B, T)."""


class EncodedTexts:
    """Texts that the encoder runs on at each read."""

    def __init__(self, tokenized: TokenizedTexts, *, bf16: bool):
        self.tokenized = tokenized
        self.bf16 = bf16

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per text, special tokens included."""
        return self.tokenized.lengths

    def read(self, encoder: TextEncoder, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Run the encoder on the texts of the given rows."""
        batch = encoder.tokenizer.collate(self.tokenized, rows).to(encoder.device)
        return encoder(batch, bf16=self.bf16), batch["content_mask"]


class StoredTexts:
    """Stored vectors of the content tokens, for a frozen encoder that runs once.

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
        self.content_mask = tokenized.content_mask
        self.lengths = np.array([int(mask.sum()) for mask in tokenized.content_mask])
        self._ends = np.cumsum(self.lengths)
        shape = (int(self.lengths.sum()), encoder.hidden_size)
        dtype = torch.empty(0, dtype=encoder.dtype).numpy().dtype
        is_small = math.prod(shape) * dtype.itemsize <= max_memory
        self._vectors = np.empty(shape, dtype) if is_small else _map_file(shape, dtype)

    def store(self, rows: np.ndarray, h: Tensor) -> None:
        """Store the content tokens of token vectors (B, T, H)."""
        for row, vectors in zip(rows.tolist(), h.cpu().numpy(), strict=True):
            mask = self.content_mask[row]
            end = self._ends[row]
            start = end - self.lengths[row]
            self._vectors[start:end] = vectors[: len(mask)][mask]

    def read(self, encoder: TextEncoder, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return the stored vectors of the given rows, padded with zeros."""
        columns = np.arange(self.lengths[rows].max())
        mask = columns < self.lengths[rows, None]  # (B, T)
        indices = (self._ends - self.lengths)[rows, None] + columns
        h = self._vectors[np.where(mask, indices, 0)]
        h[~mask] = 0
        vectors, content_mask = torch.from_numpy(np.asarray(h)), torch.from_numpy(mask)
        return vectors.to(encoder.device), content_mask.to(encoder.device)


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
