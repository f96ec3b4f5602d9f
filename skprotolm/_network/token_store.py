"""Stored vectors of tokens, in memory or in a temporary file."""

from __future__ import annotations

import math
import os
from tempfile import TemporaryFile, gettempdir

import numpy as np
import torch
from torch import Tensor

MAX_MEMORY = 2**30  # bytes


class TokenStore:
    """Vectors of the tokens of windows.

    Parameters
    ----------
    lengths : ndarray of shape (W,), int
        Tokens of each window.
    width : int
    dtype : torch.dtype
    max_memory : int
        Bytes in memory; more are memory-mapped from a temporary file.
    dtype_of_file : torch.dtype, default=None
        The precision in a file, by default the same.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        width: int,
        dtype: torch.dtype,
        max_memory: int,
        dtype_of_file: torch.dtype | None = None,
    ):
        self.lengths = lengths
        self._ends = np.cumsum(lengths)
        shape = (int(lengths.sum()), width)
        if math.prod(shape) * dtype.itemsize <= max_memory:
            self._vectors = torch.empty(shape, dtype=dtype)
        else:
            dtype = dtype_of_file or dtype
            file = _map_file(math.prod(shape) * dtype.itemsize)
            self._vectors = file.view(dtype).reshape(shape)

    def write(self, window: int, vectors: Tensor) -> None:
        """Store the vectors of a window."""
        end = self._ends[window]
        self._vectors[end - self.lengths[window] : end] = vectors

    def read(self, windows: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Return the vectors (B, T, H) of windows, zeros after them, and a mask."""
        lengths = self.lengths[windows]
        columns = np.arange(lengths.max())
        mask = columns < lengths[:, None]  # (B, T)
        indices = (self._ends[windows] - lengths)[:, None] + columns
        h = self._vectors[torch.from_numpy(np.where(mask, indices, 0))]
        h[torch.from_numpy(~mask)] = 0
        return h, mask


def _map_file(n_bytes: int) -> Tensor:
    """Return bytes in a temporary file, which is deleted with the tensor."""
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
        return torch.from_numpy(np.memmap(file, np.uint8, shape=n_bytes))
