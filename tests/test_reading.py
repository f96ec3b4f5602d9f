"""A frozen encoder runs once, and what it gave is read as often as training wants."""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np
import pytest
import torch

from skprotolm._network import token_vectors as _reading
from skprotolm._network.encoder import TextEncoder, load_encoder
from skprotolm._network.token_vectors import EncodedTexts, StoredTexts
from tests.tiny import KINDS, make_encoder

TEXTS = ["the food was good", "", "a day", ("good", "a bad film")]


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """The sizes of the batches that any encoder runs on."""
    sizes: list[int] = []
    forward = TextEncoder.forward

    def counting(self: TextEncoder, batch: Any, **options: Any) -> Any:
        sizes.append(len(batch["input_ids"]))
        return forward(self, batch, **options)

    monkeypatch.setattr(TextEncoder, "forward", counting)
    return sizes


@pytest.mark.parametrize("in_memory", [0, 2**30], ids=["mapped", "in memory"])
@pytest.mark.parametrize("kind", KINDS)
def test_stored_token_vectors_are_those_of_the_encoder(
    kind, in_memory, tmp_path, monkeypatch
):
    monkeypatch.setattr(_reading, "_IN_MEMORY", in_memory)
    encoder = load_encoder(make_encoder(kind, tmp_path), None).eval()
    tokenized = encoder.tokenize(TEXTS)
    live = EncodedTexts(tokenized, bf16=False)
    stored = StoredTexts(tokenized, encoder)
    with torch.inference_mode():
        for rows in (np.array([3, 0]), np.array([1, 2])):
            stored.store(rows, live.read(encoder, rows)[0])
        rows = np.array([2, 3, 0, 1])
        h, own = live.read(encoder, rows)
        found, mask = stored.read(encoder, rows)
    assert found.dtype == h.dtype
    for b in range(len(rows)):
        np.testing.assert_allclose(found[b][mask[b]], h[b][own[b]], atol=1e-6)
        assert not found[b][~mask[b]].any()


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_frozen_encoder_runs_on_every_text_once(
    make_classifier, texts, encoded, early_stopping
):
    """It ran again in every epoch: 128 texts cost some forty passes."""
    X, y = texts
    clf = make_classifier(
        finetune="head", max_epochs=7, early_stopping=early_stopping
    ).fit(X, y)
    # Those that became prototypes run once more, in full precision.
    assert sum(encoded) == len(X) + len(clf.prototypes_)


def test_an_encoder_that_is_trained_runs_in_every_epoch(
    make_classifier, texts, encoded
):
    make_classifier(max_epochs=3).fit(*texts)
    assert sum(encoded) > 4 * len(texts[0])


def test_a_fit_from_a_file_is_the_fit_from_memory(make_classifier, texts, monkeypatch):
    settings = {"finetune": "head", "max_epochs": 4, "early_stopping": True}
    in_memory = make_classifier(**settings).fit(*texts)
    monkeypatch.setattr(_reading, "_IN_MEMORY", 0)
    mapped = make_classifier(**settings).fit(*texts)
    X = texts[0]
    np.testing.assert_array_equal(mapped.predict_proba(X), in_memory.predict_proba(X))


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs POSIX")
def test_a_full_disk_is_an_error(make_classifier, texts, monkeypatch):
    """The process was killed by a signal, without a message."""

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_reading, "_IN_MEMORY", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="set TMPDIR to a larger folder"):
        make_classifier(finetune="head").fit(*texts)


def test_the_head_learns_the_same_from_stored_vectors(
    make_classifier, texts, tiny_bert, monkeypatch
):
    backbone = copy.deepcopy(tiny_bert)
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):  # which a stored vector has not
            module.p = 0.0
    settings = {"backbone": backbone, "finetune": "head", "precision": "fp32"}
    stored = make_classifier(**settings).fit(*texts)
    monkeypatch.setattr(TextEncoder, "is_frozen", property(lambda self: False))
    live = make_classifier(**settings).fit(*texts)
    X = texts[0]
    np.testing.assert_allclose(
        stored.predict_proba(X), live.predict_proba(X), atol=1e-4
    )
