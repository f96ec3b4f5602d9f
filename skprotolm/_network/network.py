"""The whole network, and the one loop that runs it without training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from skprotolm._network.batching import prediction_batches
from skprotolm._network.encoder import TextEncoder
from skprotolm._network.pooling import TokenAttention, pool
from skprotolm._network.prototypes import LayerOutput, PrototypeLayer
from skprotolm._network.token_vectors import ReadTexts


class Network(nn.Module):
    """Encoder, attention over tokens, and the layer of prototypes."""

    def __init__(
        self, encoder: TextEncoder, attention: TokenAttention, layer: PrototypeLayer
    ):
        super().__init__()
        self.encoder = encoder
        self.attention = attention
        self.layer = layer

    def forward(self, h: Tensor, content_mask: Tensor) -> tuple[Tensor, LayerOutput]:
        """Return text vectors (B, H) and the layer's output for token vectors."""
        s = pool(self.attention(h, content_mask), h)
        return s, self.layer(s)


class Encoded(NamedTuple):
    """One batch of texts, up to their vectors."""

    rows: np.ndarray  # (B,), positions of the texts
    h: Tensor  # (B, T, H)
    attention: Tensor  # (B, T)
    s: Tensor  # (B, H)


def encode(
    encoder: TextEncoder,
    attention: TokenAttention,
    texts: ReadTexts,
    batch_size: int,
    on_batch: Callable[[], None] | None = None,
) -> Iterator[Encoded]:
    """Run texts up to their vectors, in batches by length, without gradients.

    Dropout is as the modules have it. `on_batch` is called after each batch.
    """
    for rows in prediction_batches(texts.lengths, batch_size):
        with torch.inference_mode():
            h, content_mask = texts.read(encoder, rows)
            alpha = attention(h, content_mask)
            encoded = Encoded(rows, h, alpha, pool(alpha, h))
        yield encoded  # outside the context, which would stay active in the caller
        if on_batch is not None:
            on_batch()


def text_vectors(
    network: Network,
    texts: ReadTexts,
    batch_size: int,
    on_batch: Callable[[], None] | None = None,
) -> Tensor:
    """Return the text vectors (n, H), on the CPU, in the order of the texts."""
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
