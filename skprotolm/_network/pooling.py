"""Attention over the content tokens of a text, and the text vector that it gives."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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

    def forward(self, h: Tensor, content_mask: Tensor) -> Tensor:
        """Return α (B, T) for token vectors (B, T, H); 0 outside the mask."""
        B, T, _ = h.shape
        if content_mask.shape != (B, T):
            raise ValueError(
                f"the mask of content tokens has the shape "
                f"{tuple(content_mask.shape)}, but the token vectors have "
                f"{tuple(h.shape)}; the first two must agree."
            )
        logits = self.logits(h).masked_fill(~content_mask, -torch.inf)
        return torch.softmax(logits, dim=1)

    def logits(self, h: Tensor) -> Tensor:
        """Return the logits (B, T) of the weights."""
        return self.score(torch.tanh(self.project(h))).squeeze(-1)


def pool(attention: Tensor, h: Tensor) -> Tensor:
    """Return text vectors s = Σ_t α_t h_t, (B, H)."""
    return torch.einsum("bt,bth->bh", attention, h)
