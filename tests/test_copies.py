"""Inputs, results and backbones are copied, and are never modified."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from skprotolm import ProtoLMClassifier
from tests.tiny import make_encoder

# --- Inputs and outputs.


@pytest.mark.parametrize("container", [list, np.array, pd.Series, pd.DataFrame])
def test_inputs_are_not_modified(make_classifier, texts, container):
    X, y = container(texts[0]), container(texts[1])
    weights = np.linspace(0, 1, 48)
    y = y[0] if container is pd.DataFrame else y
    originals = copy.deepcopy((X, y, weights))
    clf = make_classifier(n_prototypes=2, class_weight="balanced")
    clf.fit(X, y, sample_weight=weights)
    clf.predict_proba(X)
    clf.explain(X, target="pos")
    for array, original in zip((X, y, weights), originals, strict=True):
        assert type(array) is type(original)
        np.testing.assert_array_equal(np.asarray(array), np.asarray(original))


def test_read_only_arrays_are_accepted(make_classifier, texts, fitted):
    X, y = np.array(texts[0]), texts[1].copy()
    weights = np.ones(48)
    for array in (X, y, weights):
        array.setflags(write=False)
    clf = make_classifier().fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(clf.predict_proba(X), fitted.predict_proba(X))


def test_modifying_results_does_not_change_the_model(fitted, texts):
    X, _ = texts
    expected = fitted.predict_proba(X)
    for array in (
        fitted.predict(X),
        fitted.predict_proba(X),
        fitted.transform(X),
        np.asarray(fitted.prototypes_),
        fitted.explain(X[:1])[0].token_scores,
    ):
        array[...] = array.flat[0]
    np.testing.assert_array_equal(fitted.predict_proba(X), expected)


def test_arrays_that_copies_share_are_read_only(fitted):
    """Changing a label of one estimator changed the labels of its copies."""
    copied = copy.deepcopy(fitted)
    assert copied.prototypes_ is fitted.prototypes_
    for array in (fitted.classes_, fitted.prototypes_.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = "x"


# --- The encoder.


def encoder_state(encoder: Any) -> dict[str, Any]:
    transformer = encoder[0]
    tokenizer = transformer.tokenizer
    return {
        "weights": {
            name: (tensor.clone(), tensor.dtype)
            for name, tensor in encoder.state_dict().items()
        },
        "device": encoder.device,
        "modes": [module.training for module in encoder.modules()],
        "trainable": [p.requires_grad for p in encoder.parameters()],
        "gradients": [p.grad for p in encoder.parameters()],
        "config": transformer.auto_model.config.to_dict(),
        "tokenizer": tokenizer.backend_tokenizer.to_str(),
        "padding": (tokenizer.padding_side, tokenizer.pad_token),
        "max_seq_length": transformer.max_seq_length,
        "hooks": [len(module._forward_hooks) for module in encoder.modules()],
    }


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama", "mpnet"])
@pytest.mark.parametrize("finetune", ["full", 1, "head"])
def test_the_backbone_is_copied(tmp_path, texts, model_type, finetune):
    X, y = texts
    encoder = make_encoder(model_type, tmp_path)
    encoder.train()
    encoder[0].auto_model.eval()  # different modes per module
    next(encoder.parameters()).requires_grad_(False)
    before = encoder_state(encoder)
    clf = ProtoLMClassifier(
        encoder, n_prototypes=1, max_epochs=1, finetune=finetune, random_state=0
    ).fit(X, y)
    clf.predict(X)
    assert clf.backbone is encoder
    after = encoder_state(encoder)
    weights_after, weights_before = after.pop("weights"), before.pop("weights")
    assert after == before
    for name, (tensor, dtype) in weights_before.items():
        assert torch.equal(weights_after[name][0], tensor), name
        assert weights_after[name][1] == dtype


def test_estimators_do_not_share_weights(tiny_bert, texts):
    X, y = texts
    first = ProtoLMClassifier(tiny_bert, n_prototypes=1, max_epochs=1, random_state=0)
    expected = first.fit(X, y).predict_proba(X)
    second = ProtoLMClassifier(
        tiny_bert, n_prototypes=1, max_epochs=2, learning_rate=1e-2, random_state=1
    )
    second.fit(X, y)
    np.testing.assert_array_equal(first.predict_proba(X), expected)
