"""Texts and functions that tests of tokens and token vectors share."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from skprotolm._network.encoder import TextEncoder
from skprotolm._network.tokenized import TokenBatch

TEXTS = ["the food was good", "a", "café 😀 naïve 123 – what a day!", "3.75"]
LONG = " ".join(["the food was good"] * 40)


def with_prompt(
    backbone: SentenceTransformer, prompt: str = "query: "
) -> SentenceTransformer:
    """Return a copy of a backbone with a default prompt."""
    changed = copy.deepcopy(backbone)
    changed.prompts = {"search": prompt}
    changed.default_prompt_name = "search"
    return changed


def tokenize_one(
    encoder: TextEncoder, text: Any
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Return the token names, content mask, offsets and segments of one text."""
    [tokens] = encoder.tokenize([text], with_offsets=True)
    names = [encoder.tokenizer.token_name(int(i)) for i in tokens.ids]
    return names, tokens.content_mask, tokens.offsets, tokens.segments


def batch_of(encoder: TextEncoder, texts: list) -> TokenBatch:
    """Return the texts as one batch."""
    tokenized = encoder.tokenize(texts)
    return encoder.tokenizer.collate(tokenized, np.arange(len(texts)))


def token_vectors(encoder: TextEncoder, texts: list) -> tuple[torch.Tensor, TokenBatch]:
    """Return the token vectors of the texts, and their batch."""
    batch = batch_of(encoder, texts)
    with torch.inference_mode():
        return encoder(batch, bf16=False), batch
