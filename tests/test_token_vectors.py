"""A frozen encoder runs once per text, and training reads the stored vectors."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from skprotolm._network.encoder import TextEncoder, load_encoder
from skprotolm._network.token_vectors import EncodedTexts, StoredTexts
from tests.tiny import MODEL_TYPES, make_encoder

TEXTS = ["the food was good", "", "a day", ("good", "a bad film")]
MEMORY = pytest.mark.parametrize("max_memory", [0, 2**30], ids=["file", "memory"])


@pytest.fixture
def batch_sizes() -> Iterator[list[int]]:
    """The sizes of the batches that any encoder runs on."""
    sizes: list[int] = []

    def count(module: torch.nn.Module, args: Any, output: Any) -> None:
        if isinstance(module, TextEncoder):
            sizes.append(len(output))

    handle = register_module_forward_hook(count)
    yield sizes
    handle.remove()


def load(model_type: str, folder: Path) -> TextEncoder:
    return load_encoder(make_encoder(model_type, folder), None).eval()


@MEMORY
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_stored_vectors_equal_computed_vectors(model_type, max_memory, tmp_path):
    encoder = load(model_type, tmp_path)
    tokenized = encoder.tokenize(TEXTS)
    computed = EncodedTexts(tokenized, bf16=False)
    stored = StoredTexts(tokenized, encoder, max_memory)
    with torch.inference_mode():
        for rows in (np.array([3, 0]), np.array([1, 2])):
            stored.store(rows, computed.read(encoder, rows)[0])
        rows = np.array([2, 3, 0, 1])
        expected, expected_mask = computed.read(encoder, rows)
        h, mask = stored.read(encoder, rows)
    assert h.dtype == expected.dtype
    for b in range(len(rows)):
        content = expected[b][expected_mask[b] > 0]
        np.testing.assert_allclose(h[b][mask[b] > 0], content, atol=1e-6)
        assert not h[b][mask[b] == 0].any()


def test_vectors_in_a_file_equal_vectors_in_memory(tmp_path):
    encoder = load("bert", tmp_path)
    tokenized = encoder.tokenize(TEXTS)
    rows = np.arange(len(TEXTS))
    with torch.inference_mode():
        h, _ = EncodedTexts(tokenized, bf16=False).read(encoder, rows)
        results = []
        for max_memory in (0, 2**30):
            stored = StoredTexts(tokenized, encoder, max_memory)
            stored.store(rows, h)
            results.append(stored.read(encoder, rows))
    (file_h, file_mask), (memory_h, memory_mask) = results
    assert torch.equal(file_h, memory_h)
    assert torch.equal(file_mask, memory_mask)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs POSIX")
def test_a_full_disk_raises_an_error(tmp_path, monkeypatch):
    """The process was killed by a signal, without a message."""

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    encoder = load("bert", tmp_path)
    tokenized = encoder.tokenize(TEXTS)
    monkeypatch.setattr(os, "posix_fallocate", fail)
    StoredTexts(tokenized, encoder)  # fits into memory
    with pytest.raises(OSError, match="set TMPDIR to a larger folder"):
        StoredTexts(tokenized, encoder, max_memory=0)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_frozen_encoder_runs_once_per_text(
    make_classifier, texts, batch_sizes, early_stopping
):
    """It ran in every epoch: 128 texts needed about forty passes."""
    X, y = texts
    clf = make_classifier(
        finetune="head", max_epochs=7, early_stopping=early_stopping
    ).fit(X, y)
    # The texts of the prototypes run once more, in full precision.
    assert sum(batch_sizes) == len(X) + len(clf.prototypes_)


def test_a_trained_encoder_runs_in_every_epoch(make_classifier, texts, batch_sizes):
    make_classifier(max_epochs=3).fit(*texts)
    assert sum(batch_sizes) > 4 * len(texts[0])


def test_training_on_stored_vectors_equals_training_on_computed_vectors(
    make_classifier, texts, tiny_bert
):
    backbone = copy.deepcopy(tiny_bert).requires_grad_(False)
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):  # stored vectors have no dropout
            module.p = 0.0
    settings = {"precision": "fp32", "max_epochs": 4}
    stored = make_classifier(backbone=backbone, finetune="head", **settings).fit(*texts)
    # Token vectors do not depend on BERT's pooler, so no weight of the encoder changes.
    trainable = copy.deepcopy(backbone)
    trainable[0].auto_model.pooler.requires_grad_(True)
    computed = make_classifier(backbone=trainable, **settings).fit(*texts)
    X = texts[0]
    np.testing.assert_allclose(
        stored.predict_proba(X), computed.predict_proba(X), atol=1e-4
    )
