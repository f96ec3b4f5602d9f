"""Decoders as backbones: causal masks, padding on the right, fits of all kinds."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from skprotolm import ProtoLMClassifier
from skprotolm._network.adapters import adaptable_matrices
from skprotolm._network.encoder import load_encoder
from tests.encoding import batch_of, token_vectors, with_prompt
from tests.tiny import DECODERS, make_encoder

MATRICES = {
    "gpt2": {"c_attn", "c_fc", "c_proj"},
    "gpt_neox": {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},
    "phi3": {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
    "qwen3_moe": {"q_proj", "k_proj", "v_proj", "o_proj"},
}
SEPARATE = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.fixture(scope="module", params=DECODERS)
def model_type(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def backbone(model_type, tmp_path_factory) -> Any:
    return make_encoder(model_type, tmp_path_factory.mktemp(model_type))


@pytest.fixture(scope="module")
def encoder(backbone) -> Any:
    return load_encoder(backbone, None).eval()


# Reading.


def test_tokens_do_not_depend_on_later_ones(encoder):
    assert encoder.is_causal
    assert encoder.tokenizer.is_causal  # which windows of long texts depend on
    long, batch = token_vectors(encoder, ["the food was good today"])
    short, _ = token_vectors(encoder, ["the food"])
    n = int(batch_of(encoder, ["the food"])["content_mask"].sum())
    is_content = batch["content_mask"][0]
    first = int(is_content.int().argmax())
    same = slice(first, first + n)
    torch.testing.assert_close(long[0, same], short[0, same], rtol=0, atol=1e-5)


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text"], scope="module")
def test_bidirectional_models_are_not_causal(backbone, tmp_path):
    """Embedding models are made from decoders by a field of their configuration."""
    backbone = copy.deepcopy(backbone)
    config = backbone[0].auto_model.config
    if config.model_type == "llama":
        config.is_causal = False
    else:
        config.use_bidirectional_attention = True
    backbone.save(str(tmp_path))
    encoder = load_encoder(tmp_path, None).eval()
    assert not encoder.is_causal
    long, batch = token_vectors(encoder, ["the food was good today"])
    short, _ = token_vectors(encoder, ["the food"])
    first = int(batch["content_mask"][0].int().argmax())
    assert (long[0, first] - short[0, first]).abs().max() > 1e-3


def test_padding_on_the_right_changes_nothing(encoder):
    texts = ["a day", "the food was good and the service was kind"]
    single, _ = token_vectors(encoder, texts[:1])
    padded, batch = token_vectors(encoder, texts)
    n = single.shape[1]
    assert batch["attention_mask"][0].tolist() == [1] * n + [0] * (padded.shape[1] - n)
    torch.testing.assert_close(padded[0, :n], single[0], rtol=0, atol=1e-5)


def test_the_prompt_is_read_but_is_no_content(encoder, backbone):
    prompted = load_encoder(with_prompt(backbone, "Query: "), None).eval()
    plain, with_it = (
        batch_of(one, ["the food was good"]) for one in (encoder, prompted)
    )
    assert with_it["input_ids"].shape[1] > plain["input_ids"].shape[1]
    expected = backbone.tokenizer("Query: the food was good")["input_ids"]
    assert with_it["input_ids"][0].tolist() == expected
    content = with_it["input_ids"][0][with_it["content_mask"][0]]
    text = backbone.tokenizer.decode(content)
    assert text.strip() == "the food was good"


# Fits.


@pytest.mark.parametrize("finetune", ["full", "lora", 1, "head"])
def test_predictions_do_not_depend_on_the_batch(
    make_classifier, texts, backbone, finetune
):
    X, y = texts
    clf = make_classifier(backbone=backbone, finetune=finetune, max_epochs=1)
    expected = clf.fit(X, y).predict_proba(X)
    single = np.concatenate([clf.predict_proba([text]) for text in X[:6]])
    np.testing.assert_allclose(single, expected[:6], rtol=0, atol=1e-6)
    loaded = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)


@pytest.mark.parametrize("finetune", ["full", "lora", 1, "head"])
def test_explanations_of_long_texts_are_exact(
    make_classifier, texts, backbone, finetune
):
    X = [" and ".join([text] * 3) for text in texts[0]]
    clf: ProtoLMClassifier = make_classifier(
        backbone=backbone,
        finetune=finetune,
        max_epochs=1,
        long_text="window",
        max_length=16,
    )
    clf.fit(X, texts[1])
    for method in ("auto", "decomposition"):
        for explanation in clf.explain(X[:2], token_method=method):
            total = explanation.base_value + explanation.token_scores.sum()
            assert total == pytest.approx(explanation.log_odds, abs=1e-5)
            assert explanation.contributions.sum() == pytest.approx(1)


def test_all_matrices_of_the_layers_get_adapters(encoder, model_type):
    names = {name.rpartition(".")[2] for name in adaptable_matrices(encoder)}
    assert names == MATRICES.get(model_type, SEPARATE)


def test_merged_adapters_are_added_to_the_weights(make_classifier, texts, backbone):
    """Conv1D of GPT-2 is transposed."""
    clf = make_classifier(backbone=backbone, finetune="lora").fit(*texts)
    before = backbone.state_dict()
    after = clf._fitted.network.encoder.sentence_transformer.state_dict()
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    for name in changed:
        assert before[name].shape == after[name].shape
        difference = (after[name] - before[name]).double()
        assert torch.linalg.matrix_rank(difference, rtol=1e-4) <= 8
