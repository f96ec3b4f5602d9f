"""Encoder and head together, and the one loop that runs them without training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from skprotolm._network.batching import prediction_batches
from skprotolm._network.encoder import TextEncoder
from skprotolm._network.prototypes import PrototypeHead, TokenAttention, pool
from skprotolm._network.token_vectors import ReadTexts
from skprotolm._network.tokenizer import TokenBatch, TokenizedTexts


class ProtoLM(nn.Module):
    """The network: a text encoder with a prototype head."""

    def __init__(self, encoder: TextEncoder, head: PrototypeHead):
        super().__init__()
        self.encoder = encoder
        self.head = head


class Encoded(NamedTuple):
    """One batch of texts behind the attention."""

    rows: np.ndarray  # (B,) which texts these are
    batch: TokenBatch
    h: Tensor  # (B, T, H)
    attention: Tensor  # (B, T)
    s: Tensor  # (B, H)


def encode(
    encoder: TextEncoder,
    attention: TokenAttention,
    tokenized: TokenizedTexts,
    batch_size: int,
    *,
    bf16: bool,
) -> Iterator[Encoded]:
    """Run texts up to their vectors, in batches by length, without gradients."""
    for rows in prediction_batches(tokenized.lengths, batch_size):
        with torch.inference_mode():
            batch = encoder.tokenizer.collate(tokenized, rows).to(encoder.device)
            h = encoder(batch, bf16=bf16)
            alpha = attention(h, batch["content_mask"])
            encoded = Encoded(rows, batch, h, alpha, pool(alpha, h))
        yield encoded  # outside the scope, which would else reach into the caller


def text_vectors(model: ProtoLM, texts: ReadTexts, batch_size: int) -> Tensor:
    """Return the text vectors s (n, H), on the CPU, in the order of the texts."""
    batches = []
    with evaluating(model), torch.inference_mode():
        for rows in prediction_batches(texts.lengths, batch_size):
            h, content_mask = texts.read(model.encoder, rows)
            batches.append((rows, pool(model.head.attention(h, content_mask), h).cpu()))
    return in_order(batches)


def in_order(batches: list[tuple[np.ndarray, Tensor]]) -> Tensor:
    """Put the rows of batches back into the order of the texts."""
    rows = np.concatenate([rows for rows, _ in batches])
    return torch.cat([values for _, values in batches])[np.argsort(rows)]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout off, and back on where it was on."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
