"""The whole network, and the one loop that runs it without training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from skprotolm._network.batching import prediction_batches
from skprotolm._network.encoder import TextEncoder
from skprotolm._network.layers import checkpointed
from skprotolm._network.pooling import TokenAttention, merge_windows
from skprotolm._network.prototypes import LayerOutput, PrototypeLayer
from skprotolm._network.token_vectors import ReadTexts
from skprotolm._network.windows import WindowIndex, list_windows, number_units


class Network(nn.Module):
    """Encoder, attention over tokens, and the layer of prototypes."""

    def __init__(
        self, encoder: TextEncoder, attention: TokenAttention, layer: PrototypeLayer
    ):
        super().__init__()
        self.encoder = encoder
        self.attention = attention
        self.layer = layer

    def in_torch(self) -> Network:
        """Return the network whose encoder torch runs, as it reads prototypes."""
        return Network(self.encoder.in_torch(), self.attention, self.layer)

    def forward(
        self,
        texts: ReadTexts,
        rows: np.ndarray,
        part_size: int,
        drawn: dict[int, np.ndarray] | None = None,
        *,
        checkpoints_layers: bool = False,
    ) -> tuple[np.ndarray, Tensor, LayerOutput]:
        """Return units (B,), their vectors (B, H) and the layer's output.

        More than `part_size` windows per process are read in parts. The graph of the
        last part is kept; the backward pass, which begins there, reads the others
        again, with the same dropout. Gradients are those of the whole batch, whose
        texts losses compare with each other.

        Parameters
        ----------
        texts : ReadTexts
        rows : ndarray of int
            The texts whose units are read.
        part_size : int
        drawn : dict of int to ndarray of int, default=None
            The windows of texts that are not read as a whole, see `draw_windows`.
        checkpoints_layers : bool, default=False
            Whether the graph of each part has only the inputs of the encoder's layers,
            see `checkpointed`.
        """
        windows = list_windows(rows, texts.n_windows, drawn)
        parts = windows.split(part_size * texts.n_readers)
        encoder = checkpointed(self.encoder) if checkpoints_layers else self.encoder

        def read(part: WindowIndex, like: Tensor) -> tuple[Tensor, Tensor]:
            return self.attention.pool(*texts.read(encoder, *part))[1:]

        # A tensor among the arguments tells the device whose dropout is repeated.
        like = self.attention.score.weight
        pooled = [
            checkpoint(read, part, like, use_reentrant=False) for part in parts[:-1]
        ]
        pooled.append(read(parts[-1], like))
        log_sums, s = map(torch.cat, zip(*pooled, strict=True))
        units, numbers = number_units(texts.units(windows))
        units_of = torch.from_numpy(numbers).to(s.device)
        s = merge_windows(log_sums, s, units_of, len(units)).s
        return units, s, self.layer(s)


@dataclass(frozen=True)
class Encoded:
    """One batch of texts, up to the vectors of their units, and their windows.

    Where there are several parts of windows, token vectors are not kept. Units are the
    texts, or their words; then a window below is a word of a window.
    """

    rows: np.ndarray  # (B,), positions of the units
    s: Tensor  # (B, H)
    windows: list[WindowIndex]  # in parts, as the encoder read them
    texts: list[Tensor]  # (W,) of each part: the unit of a window, as position in rows
    attention: list[Tensor]  # (W, T) of each part; all weights of a text sum to 1
    token_vectors: Callable[[], Iterable[Tensor]]  # (W, T, H) of each part


def encode(
    encoder: TextEncoder,
    attention: TokenAttention,
    texts: ReadTexts,
    batch_size: int,
    on_batch: Callable[[], None] | None = None,
    on_windows: Callable[[WindowIndex, Tensor], None] | None = None,
) -> Iterator[Encoded]:
    """Run texts up to their vectors, in batches by length, without gradients.

    Dropout is as the modules have it. The encoder of each process reads at most
    `batch_size` windows at a time. `on_batch` is called after each `batch_size` texts,
    and `on_windows` with the token vectors of each part.
    """
    n_read, size = 0, batch_size * texts.n_readers
    for rows in prediction_batches(texts.lengths, size, texts.n_windows):
        with torch.inference_mode():
            encoded = _encode_batch(encoder, attention, texts, rows, size, on_windows)
        yield encoded  # outside the context, which would stay active in the caller
        if on_batch is not None:
            n_batches = math.ceil(n_read / batch_size)
            for _ in range(n_batches, math.ceil((n_read + len(rows)) / batch_size)):
                on_batch()
        n_read += len(rows)


def _encode_batch(
    encoder: TextEncoder,
    attention: TokenAttention,
    texts: ReadTexts,
    rows: np.ndarray,
    batch_size: int,
    on_windows: Callable[[WindowIndex, Tensor], None] | None,
) -> Encoded:
    windows = list_windows(rows, texts.n_windows)
    parts = windows.split(batch_size)
    pooled = []
    for part in parts:
        h, weights = texts.read(encoder, *part)
        pooled.append(attention.pool(h, weights))
        if on_windows is not None:
            on_windows(part, h)
    units, numbers = number_units(texts.units(windows))
    units_of = torch.from_numpy(numbers)
    merged = merge_windows(
        torch.cat([p.log_sums for p in pooled]),
        torch.cat([p.s for p in pooled]),
        units_of.to(h.device),
        len(units),
    )
    sizes = [len(p.s) for p in pooled]
    shares = merged.shares.split(sizes)
    alphas = [
        share[:, None] * p.attention for share, p in zip(shares, pooled, strict=True)
    ]

    def read_again() -> Iterator[Tensor]:
        for part in parts:
            with torch.inference_mode():
                h, _ = texts.read(encoder, *part)
            yield h

    kept = [h]
    vectors = read_again if len(parts) > 1 else lambda: kept
    split = list(units_of.split(sizes))
    return Encoded(units, merged.s, parts, split, alphas, vectors)


def text_vectors(
    network: Network,
    texts: ReadTexts,
    batch_size: int,
    on_batch: Callable[[], None] | None = None,
) -> Tensor:
    """Return the vectors of all units (n, H), on the CPU, in their order."""
    encoder, attention = network.encoder, network.attention
    with evaluating(network):
        return in_order(
            [
                (encoded.rows, encoded.s.cpu())
                for encoded in encode(encoder, attention, texts, batch_size, on_batch)
            ]
        )


def in_order(batches: list[tuple[np.ndarray, Tensor]]) -> Tensor:
    """Put the rows of batches back into the order of the texts."""
    rows = np.concatenate([rows for rows, _ in batches])
    with torch.inference_mode(False):
        return torch.cat([values for _, values in batches])[np.argsort(rows)]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch dropout off, and back on where it was on."""
    training = [child for child in module.modules() if child.training]
    module.eval()
    try:
        yield
    finally:
        for child in training:
            child.training = True
