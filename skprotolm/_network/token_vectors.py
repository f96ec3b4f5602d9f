"""Token vectors of texts: computed at each read, resumed from a layer, or stored.

What the layers below the first trained one return is computed once.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from skprotolm._network.encoder import TextEncoder
from skprotolm._network.layers import (
    is_checkpointed_by_transformers,
    resumed,
    states_of,
    transformer_layers,
)
from skprotolm._network.token_store import MAX_MEMORY, TokenStore
from skprotolm._network.tokenized import TokenizedTexts
from skprotolm._network.windows import WindowIndex, WindowNumbers, list_windows
from skprotolm._processes import ALONE, Processes


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

    @property
    def n_readers(self) -> int:
        """How many processes share the work of a read."""

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
    """Texts that the encoder runs on at each read.

    Several processes read the same rows at the same time, and share the work.
    """

    def __init__(
        self, tokenized: TokenizedTexts, *, bf16: bool, processes: Processes = ALONE
    ):
        self.tokenized = tokenized
        self.bf16 = bf16
        self.processes = processes
        self.n_readers = processes.size
        self.lengths = tokenized.lengths
        self.n_windows = tokenized.n_windows

    def read(
        self, encoder: TextEncoder, rows: np.ndarray, numbers: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the encoder on windows of the texts of the given rows."""
        batch = encoder.tokenizer.collate(self.tokenized, rows, numbers)
        batch = batch.to(encoder.device)
        part = batch.take(self.processes.part(len(rows)))
        h = self.processes.gather(encoder(part, bf16=self.bf16), len(rows))
        return h, batch["weights"]

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
        self,
        tokenized: TokenizedTexts,
        encoder: TextEncoder,
        max_memory: int = MAX_MEMORY,
    ):
        self.n_readers = 1  # each process has all vectors
        self.n_windows = tokenized.n_windows
        self._windows = WindowNumbers(self.n_windows)
        self._weights = _window_weights(tokenized)
        lengths = np.array([np.count_nonzero(w) for w in self._weights])
        self.lengths = np.add.reduceat(lengths, self._windows.first)
        self._store = TokenStore(
            lengths, encoder.hidden_size, encoder.dtype, max_memory
        )

    def store(
        self, rows: np.ndarray, h: Tensor, numbers: np.ndarray | None = None
    ) -> None:
        """Store the tokens that count, of token vectors (B, T, H)."""
        windows = self._windows.of(rows, numbers).tolist()
        for window, vectors in zip(windows, h.cpu(), strict=True):
            counted = torch.from_numpy(self._weights[window] > 0)
            self._store.write(window, vectors[: len(counted)][counted])

    def read(
        self, encoder: TextEncoder, rows: np.ndarray, numbers: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the stored vectors of the given windows, padded with zeros."""
        windows = self._windows.of(rows, numbers)
        h, mask = self._store.read(windows)
        weights = np.zeros(mask.shape, dtype=np.float32)
        stored = [self._weights[window] for window in windows.tolist()]
        weights[mask] = np.concatenate([w[w > 0] for w in stored])
        device = encoder.device
        return h.to(device), torch.from_numpy(weights).to(device)

    def units(self, windows: WindowIndex) -> np.ndarray:
        """Return the texts of windows."""
        return windows.rows

    def columns(self, counts: np.ndarray) -> np.ndarray:
        """Return the first columns: other tokens are not stored."""
        return np.arange(np.count_nonzero(counts))


class ResumedTexts(EncodedTexts):
    """Texts that the lower layers read once, and the last ones at each read.

    What the lower layers return is stored as windows are first read, which must be
    without dropout. The lower layers may not change.

    Parameters
    ----------
    tokenized : TokenizedTexts
    encoder : TextEncoder
        Determines the width and the precision of what is stored.
    n_trained : int
        The number of last layers; fewer than all.
    bf16 : bool
    processes : Processes, default=ALONE
        Each of them stores all texts.
    max_memory : int, default=2**30
        Bytes in memory. More are memory-mapped from a temporary file, in bfloat16.
    """

    def __init__(
        self,
        tokenized: TokenizedTexts,
        encoder: TextEncoder,
        n_trained: int,
        *,
        bf16: bool,
        processes: Processes = ALONE,
        max_memory: int = MAX_MEMORY,
    ):
        super().__init__(tokenized, bf16=bf16, processes=processes)
        self._path, layers = transformer_layers(encoder)
        self._n_lower = len(layers) - n_trained
        self._windows = WindowNumbers(self.n_windows)
        lengths = np.array([len(weights) for weights in _window_weights(tokenized)])
        width, dtype = encoder.hidden_size, encoder.dtype
        self._store = TokenStore(lengths, width, dtype, max_memory, torch.bfloat16)
        self._is_stored = np.zeros(len(lengths), dtype=bool)
        self._returned: Any = None  # by a layer, without the hidden states

    def read(
        self, encoder: TextEncoder, rows: np.ndarray, numbers: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the last layers on windows of the texts of the given rows."""
        windows = self._windows.of(rows, numbers)
        if not self._is_stored[windows].all():
            return self._read_all(encoder, rows, numbers)
        part = self.processes.part(len(rows))
        states = self._store.read(windows)[0][part].to(encoder.device, encoder.dtype)
        if torch.is_grad_enabled():  # which reentrant checkpoints ask their input for
            states.requires_grad_(is_checkpointed_by_transformers(encoder))
        output = states if self._returned is None else (states, *self._returned)
        upper = resumed(encoder, self._path, self._n_lower, output)
        return super().read(upper, rows, numbers)

    def _read_all(
        self, encoder: TextEncoder, rows: np.ndarray, numbers: np.ndarray | None
    ) -> tuple[Tensor, Tensor]:
        """Run all layers, and store what the last of the lower ones returns."""
        outputs: list[Any] = []
        layer = encoder.get_submodule(f"{self._path}.{self._n_lower - 1}")
        handle = layer.register_forward_hook(lambda *args: outputs.append(args[2]))
        try:
            h, weights = super().read(encoder, rows, numbers)
        finally:
            handle.remove()
        windows = self._windows.of(rows, numbers)
        states = states_of(outputs, h.shape[1]).detach()
        states = self.processes.gather(states, len(rows))
        for window, vectors in zip(windows.tolist(), states, strict=True):
            self._store.write(window, vectors[: self._store.lengths[window]])
        if isinstance(outputs[0], tuple):
            self._returned = outputs[0][1:]
        self._is_stored[windows] = True
        return h, weights


def _window_weights(tokenized: TokenizedTexts) -> list[np.ndarray]:
    """Return how much the tokens of each window of all texts count, W arrays."""
    every = list_windows(np.arange(len(tokenized)), tokenized.n_windows)
    return [
        tokenized[row].weights(number)
        for row, number in zip(*map(np.ndarray.tolist, every), strict=True)
    ]
