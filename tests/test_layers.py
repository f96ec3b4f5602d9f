"""The last layers are trained alone, on what the layers below gave once."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from transformers.models.bert.modeling_bert import BertLayer

from skprotolm import ProtoLMClassifier
from skprotolm._network.encoder import load_encoder
from skprotolm._network.layers import resumed, states_of, transformer_layers
from skprotolm._network.token_vectors import EncodedTexts, ResumedTexts
from tests.tiny import MODEL_TYPES, make_encoder, without_dropout

TEXTS = ["the food was good", "", "a day", ("good", "a bad film")]
MEMORY = pytest.mark.parametrize("max_memory", [0, 2**30], ids=["file", "memory"])


@pytest.fixture
def texts_per_layer() -> Iterator[dict[int, int]]:
    """How many texts each layer of any BERT has read."""
    counts: dict[int, int] = {}

    def count(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(module, BertLayer):
            layer = module.attention.self.layer_idx
            counts[layer] = counts.get(layer, 0) + len(args[0])

    handle = register_module_forward_hook(count)
    yield counts
    handle.remove()


def trained_names(clf: ProtoLMClassifier, encoder: Any) -> set[str]:
    """Return the weights of the encoder that a fit has changed."""
    before = encoder.state_dict()
    after = clf._fitted.network.encoder.sentence_transformer.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


# Reading.


@MEMORY
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_last_layers_continue_from_what_is_stored(model_type, max_memory, tmp_path):
    encoder = load_encoder(make_encoder(model_type, tmp_path), None).eval()
    tokenized = encoder.tokenize(TEXTS)
    whole = EncodedTexts(tokenized, bf16=False)
    stored = ResumedTexts(tokenized, encoder, 1, bf16=False, max_memory=max_memory)
    with torch.inference_mode():
        for rows in (np.array([3, 0]), np.array([1, 2])):
            stored.read(encoder, rows)
        rows = np.array([2, 3, 0, 1])
        expected, weights = whole.read(encoder, rows)
        h, same_weights = stored.read(encoder, rows)
    assert torch.equal(weights, same_weights)
    atol = 1e-5 if max_memory else 0.05  # a file has bfloat16
    np.testing.assert_allclose(h[weights > 0], expected[weights > 0], atol=atol)


def test_the_encoder_is_not_changed_by_reading(tiny_bert):
    """Ctrl-C in a step left layers that did nothing, and the fit was lost."""
    encoder = load_encoder(tiny_bert, None).eval()
    modules = dict(encoder.named_modules())
    path, layers = transformer_layers(encoder)
    states = torch.zeros(1, 2, 16)
    upper = resumed(encoder, path, 1, states)
    assert upper.get_submodule(f"{path}.0")(None) is states
    assert upper.get_submodule(f"{path}.1") is layers[1]
    after = dict(encoder.named_modules())
    assert all(after[name] is module for name, module in modules.items())
    assert {*map(id, upper.parameters())} == {*map(id, encoder.parameters())}


def test_what_cannot_be_stored_is_refused():
    """DeBERTa returns a tuple, Longformer pads, and RemBERT returns more."""
    states = torch.zeros(1, 2, 4)
    assert states_of([states], 2) is states_of([(states, None)], 2) is states
    for outputs in ([], [states, states], [(states, torch.ones(1))]):
        with pytest.raises(ValueError, match="more than the hidden states"):
            states_of(outputs, 2)
    with pytest.raises(ValueError, match="more than the hidden states"):
        states_of([states], 3)


# Fits.


@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_lower_layers_run_once_per_text(
    make_classifier, texts, texts_per_layer, early_stopping
):
    X, y = texts
    clf = make_classifier(finetune=1, max_epochs=3, early_stopping=early_stopping)
    clf.fit(X, y)
    # The texts of the prototypes run once more, in full precision.
    assert texts_per_layer[0] == len(X) + len(clf.prototypes_)
    assert texts_per_layer[1] > 4 * len(X)


@pytest.mark.parametrize(
    ("finetune", "trained"),
    [
        (1, {"0.model.encoder.layer.1"}),
        (2, {"0.model.encoder.layer.0", "0.model.encoder.layer.1"}),
    ],
)
def test_only_the_last_layers_are_trained(
    make_classifier, texts, tiny_bert, finetune, trained
):
    clf = make_classifier(backbone=tiny_bert, finetune=finetune).fit(*texts)
    names = trained_names(clf, tiny_bert)
    assert {name[: name.index("layer.") + 7] for name in names} == trained


def test_weights_that_may_not_be_trained_are_not(make_classifier, texts, tiny_bert):
    backbone = copy.deepcopy(tiny_bert)
    last = backbone[0].auto_model.encoder.layer[1]
    last.attention.requires_grad_(False)
    clf = make_classifier(backbone=backbone, finetune=1).fit(*texts)
    assert not any("attention" in name for name in trained_names(clf, backbone))
    last.requires_grad_(False)
    with pytest.raises(ValueError, match="the last layers that finetune names"):
        make_classifier(backbone=backbone, finetune=1).fit(*texts)


@pytest.mark.parametrize("model_type", ["bert", "deberta-v2", "gpt2", "llama"])
def test_stored_states_train_as_computed_ones(
    make_classifier, texts, tmp_path, model_type
):
    """Layers of DeBERTa return a tuple, which its encoder unpacks."""
    backbone = without_dropout(make_encoder(model_type, tmp_path))
    settings = {"precision": "fp32", "max_epochs": 4}
    stored = make_classifier(backbone=backbone, finetune=1, **settings).fit(*texts)
    frozen = copy.deepcopy(backbone).requires_grad_(False)
    layers = transformer_layers(load_encoder(backbone, None))[0].split(".", 1)[1]
    frozen.get_submodule(layers)[-1].requires_grad_(True)
    computed = make_classifier(backbone=frozen, **settings).fit(*texts)
    np.testing.assert_allclose(
        stored.predict_proba(texts[0]), computed.predict_proba(texts[0]), atol=1e-4
    )


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable:FutureWarning")
def test_reentrant_checkpoints_train_the_last_layer(make_classifier, texts, tiny_bert):
    """Their input had no gradient, so that nothing of the encoder was trained."""
    backbone = copy.deepcopy(tiny_bert)
    options = {"use_reentrant": True}
    backbone[0].auto_model.gradient_checkpointing_enable(options)
    clf = make_classifier(backbone=backbone, finetune=1).fit(*texts)
    assert len(trained_names(clf, backbone)) == 16


# Errors, before anything is trained.


def test_more_layers_than_there_are(make_classifier, texts):
    with pytest.raises(ValueError, match=r"finetune must be at most 2.*got 3"):
        make_classifier(finetune=3).fit(*texts)


def test_a_backbone_without_one_list_of_layers(
    make_classifier, texts, tiny_bert, tmp_path
):
    backbone = make_encoder("albert", tmp_path)
    with pytest.raises(ValueError, match=r"\(albert\) are not in one list"):
        make_classifier(backbone=backbone, finetune=1).fit(*texts)
    backbone = copy.deepcopy(tiny_bert)
    layers = backbone[0].auto_model.encoder.layer
    backbone[0].auto_model.decoder = copy.deepcopy(layers)  # as BART has
    with pytest.raises(ValueError, match="not in one list"):
        make_classifier(backbone=backbone, finetune=1).fit(*texts)


def test_layers_that_share_weights(make_classifier, texts, tiny_bert):
    """Lower layers changed with the last ones, after their output was stored."""
    backbone = copy.deepcopy(tiny_bert)
    layers = backbone[0].auto_model.encoder.layer
    layers[0].intermediate = layers[1].intermediate
    for finetune, message in ((1, "share weights"), ("lora", "not shared")):
        with pytest.raises(ValueError, match=message):
            make_classifier(backbone=backbone, finetune=finetune).fit(*texts)
