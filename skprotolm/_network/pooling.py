"""Attention over the content tokens of a text, and the text vector that it gives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from skprotolm._network.readout import grouped_logsumexp

_ATTENTION_SIZE = 128  # width of the layer that scores a token


class TokenAttention(nn.Module):
    """Weights of a text's content tokens: softmax of ν·tanh(W h_t + b)."""

    def __init__(self, hidden_size: int):
        super().__init__()
        # Whatever torch's default is, which would draw other numbers.
        fp32 = torch.float32
        self.project = nn.Linear(hidden_size, _ATTENTION_SIZE, dtype=fp32)
        self.score = nn.Linear(_ATTENTION_SIZE, 1, bias=False, dtype=fp32)
        nn.init.zeros_(self.score.weight)  # untrained, it is the mean of the tokens

    def forward(self, h: Tensor, weights: Tensor) -> Tensor:
        """Return α (B, T) for token vectors (B, T, H); 0 for tokens of weight 0.

        A weight of 1/2 halves the α of a token. A mask has weights of 0 and 1.
        """
        return torch.softmax(self.weighted_logits(h, weights), dim=1)

    def weighted_logits(self, h: Tensor, weights: Tensor) -> Tensor:
        """Return the logits (B, T) of tokens that count with these weights."""
        B, T, _ = h.shape
        if weights.shape != (B, T):
            raise ValueError(
                f"the mask of content tokens has the shape {tuple(weights.shape)}, but "
                f"the token vectors have {tuple(h.shape)}; the first two must agree."
            )
        logits = self.logits(h) + weights.log().to(h)
        return torch.where(weights > 0, logits, -torch.inf)

    def logits(self, h: Tensor) -> Tensor:
        """Return the logits (B, T) of the weights."""
        return self.score(torch.tanh(self.project(h))).squeeze(-1)

    def pool(self, h: Tensor, weights: Tensor) -> PooledWindows:
        """Pool the tokens of each window, (B, T, H)."""
        logits = self.weighted_logits(h, weights)
        alpha = torch.softmax(logits, dim=1)
        return PooledWindows(alpha, torch.logsumexp(logits, dim=1), pool(alpha, h))


class PooledWindows(NamedTuple):
    """W windows of texts, pooled one by one."""

    attention: Tensor  # (W, T), of sum 1
    log_sums: Tensor  # (W,), logsumexp of the logits of the attention
    s: Tensor  # (W, H)


def pool(attention: Tensor, h: Tensor) -> Tensor:
    """Return text vectors s = Σ_t α_t h_t, (B, H)."""
    return torch.einsum("bt,bth->bh", attention, h)


class MergedTexts(NamedTuple):
    """B texts, merged from W windows, with one softmax over all tokens of a text."""

    s: Tensor  # (B, H)
    log_totals: Tensor  # (B,), logsumexp of the logits of all tokens
    shares: Tensor  # (W,), the part of its text's attention that a window has


def merge_windows(log_sums: Tensor, s: Tensor, texts: Tensor, B: int) -> MergedTexts:
    """Merge pooled windows, weighted by the softmax of their log-sums in each text.

    Parameters
    ----------
    log_sums : Tensor of shape (W,)
    s : Tensor of shape (W, H)
    texts : Tensor of shape (W,), int
        The text of each window, ascending.
    B : int
        Number of texts.
    """
    if len(texts) == B:  # each has one window
        return MergedTexts(s, log_sums, torch.ones_like(log_sums))
    log_totals = grouped_logsumexp(log_sums[None], texts, B)[0]
    shares = (log_sums - log_totals[texts]).exp()
    merged = s.new_zeros(B, s.shape[1]).index_add(0, texts, shares[:, None] * s)
    return MergedTexts(merged, log_totals, shares)
