"""Padding, sentence vectors, threads, and the user's model.

Nearly everything is tested on every model type, because tokenizers differ in special
tokens, in padding and in the characters of a token.
"""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import ByT5Tokenizer

from skprotolm._network.encoder import load_encoder
from skprotolm.exceptions import TextTruncatedWarning
from tests.tiny import HIDDEN, make_encoder

try:
    from sentence_transformers.sentence_transformer import modules
except ImportError:  # sentence-transformers before 6
    from sentence_transformers import models as modules

from tests.encoding import (
    LONG,
    TEXTS,
    batch_of,
    token_vectors,
    tokenize_one,
    with_prompt,
)


@pytest.fixture(scope="module")
def encoder(backbone):
    return load_encoder(backbone, None).eval()


# Padding


def test_padding_is_always_on_the_right(encoder):
    tokenized = encoder.tokenize(TEXTS)
    batch = encoder.tokenizer.collate(tokenized, np.arange(len(TEXTS)))
    expected = [[1] * n + [0] * (max(tokenized.lengths) - n) for n in tokenized.lengths]
    assert batch["attention_mask"].tolist() == expected


@pytest.mark.parametrize("text", [*TEXTS, "", ("the food", "was good")])
def test_padding_does_not_change_token_vectors(text, encoder):
    longer = LONG[:150] if isinstance(text, str) else (LONG[:70], LONG[:70])
    single, _ = token_vectors(encoder, [text])
    padded, batch = token_vectors(encoder, [longer, text])
    n = single.shape[1]
    assert batch["attention_mask"][1].sum() == n < padded.shape[1]
    torch.testing.assert_close(padded[1, :n], single[0], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def typed_bert(tmp_path_factory):
    """A BERT whose tokenizer returns token type ids."""
    backbone = make_encoder("bert", tmp_path_factory.mktemp("typed"))
    names = ["input_ids", "token_type_ids", "attention_mask"]
    backbone.tokenizer.model_input_names = names
    return backbone


def test_token_type_ids_are_passed_to_models_that_use_them(typed_bert):
    pairs = [("the food", "was good"), ("a", "b")]
    encoder = load_encoder(typed_bert, None).eval()
    h, batch = token_vectors(encoder, pairs)
    for row, pair in enumerate(pairs):
        _, content, _, segments = tokenize_one(encoder, pair)
        types = batch["token_type_ids"][row, : len(content)].numpy()
        assert types[content].tolist() == segments[content].tolist()
    with torch.inference_mode():
        vectors = encoder.sentence_vectors(batch, h).numpy()
    np.testing.assert_allclose(vectors, typed_bert.encode(pairs), rtol=0, atol=1e-5)
    untyped = copy.deepcopy(typed_bert)
    untyped.tokenizer.model_input_names = ["input_ids", "attention_mask"]
    assert "token_type_ids" not in batch_of(load_encoder(untyped, None), pairs)


# Sentence vectors


def _reference(backbone, texts):
    """Encode texts one by one, without padding."""
    reference = copy.deepcopy(backbone)
    if reference.tokenizer.pad_token is None:
        reference.tokenizer.pad_token = reference.tokenizer.eos_token
    return reference.encode(texts, batch_size=1)


@pytest.mark.parametrize(
    ("prompt", "include_prompt"),
    [(None, True), ("query: ", True), ("query: ", False)],
)
@pytest.mark.parametrize(
    ("pooling", "normalized"),
    [("mean", False), ("mean", True), ("cls", False), ("lasttoken", True)],
)
def test_sentence_vectors_equal_those_of_sentence_transformers(
    pooling, normalized, include_prompt, prompt, backbone
):
    pipeline = [
        copy.deepcopy(backbone[0]),
        modules.Pooling(HIDDEN, pooling, include_prompt=include_prompt),
        *([modules.Normalize()] if normalized else []),
    ]
    changed = SentenceTransformer(modules=pipeline, device="cpu")
    if prompt:
        changed = with_prompt(changed, prompt)
    encoder = load_encoder(changed, None).eval()
    h, batch = token_vectors(encoder, TEXTS)
    with torch.inference_mode():
        vectors = encoder.sentence_vectors(batch, h).numpy()
    expected = _reference(changed, TEXTS)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)


def test_sentence_vectors_of_pairs_equal_those_of_sentence_transformers(encoder):
    pairs = [("the food", "was good"), ("a", "bad film")]
    h, batch = token_vectors(encoder, pairs)
    with torch.inference_mode():
        vectors = encoder.sentence_vectors(batch, h).numpy()
    expected = _reference(encoder.sentence_transformer, pairs)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)


def test_bfloat16_vectors_are_returned_in_the_precision_of_the_weights(encoder):
    batch = batch_of(encoder, TEXTS)
    with torch.inference_mode():
        exact, rounded = (encoder(batch, bf16=bf16) for bf16 in (False, True))
    assert exact.dtype == rounded.dtype == torch.float32
    assert (
        exact.shape
        == rounded.shape
        == (*batch["content_mask"].shape, encoder.hidden_size)
    )
    assert 0 < (exact - rounded).abs().max() < 0.2


# The user's model


def _state(backbone):
    tokenizer = backbone.tokenizer
    return {
        "weights": {k: v.clone() for k, v in backbone.state_dict().items()},
        "trained": [p.requires_grad for p in backbone.parameters()],
        "modes": [module.training for module in backbone.modules()],
        "pad": (tokenizer.pad_token, tokenizer.pad_token_id, tokenizer.padding_side),
        "limits": (backbone.max_seq_length, tokenizer.model_max_length),
        "cache": getattr(backbone[0].auto_model.config, "use_cache", None),
        "prompts": (dict(backbone.prompts), backbone.default_prompt_name),
        "tokenizer": tokenizer.backend_tokenizer.to_str(),
    }


def test_the_users_model_is_not_modified(backbone):
    before = _state(backbone)
    encoder = load_encoder(backbone, 16).train()
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    with pytest.warns(TextTruncatedWarning):
        batch = batch_of(encoder, [LONG, "a"])
    encoder(batch, bf16=False).square().sum().backward()
    optimizer.step()
    encoder.requires_grad_(False)
    after = _state(backbone)
    weights = before.pop("weights")
    for name, weight in after.pop("weights").items():
        assert torch.equal(weight, weights[name])
    assert after == before


@pytest.mark.parametrize("model_type", ["gpt2", "llama"], scope="module")
def test_a_missing_padding_token_is_set_on_the_copy(backbone, encoder):
    assert backbone.tokenizer.pad_token is None
    tokenizer = encoder.transformer.tokenizer
    assert tokenizer.pad_token == tokenizer.eos_token is not None


@pytest.mark.parametrize("model_type", ["bert"], scope="module")
def test_later_changes_of_the_users_tokenizer_have_no_effect(backbone):
    changed = copy.deepcopy(backbone)
    encoder = load_encoder(changed, None)
    before = tokenize_one(encoder, "good food")[0]
    changed.tokenizer.add_tokens(["good food"])
    changed.max_seq_length = 3
    assert tokenize_one(encoder, "good food")[0] == before


# Unsupported models


def test_a_slow_tokenizer_raises_an_error(tmp_path):
    make_encoder("bert", tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    ByT5Tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"ByT5Tokenizer.*fast tokenizer is needed"):
        load_encoder(tmp_path, None)


def test_a_folder_without_tokenizer_files_raises_an_error(tmp_path):
    """The tokenizer mapped every text to [UNK]."""
    make_encoder("bert", tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"tokenizer"):
        load_encoder(tmp_path, None)


def test_a_first_module_without_token_vectors_raises_an_error(tiny_bert):
    static = modules.StaticEmbedding(tiny_bert.tokenizer, embedding_dim=8)
    backbone = SentenceTransformer(modules=[static], device="cpu")
    with pytest.raises(ValueError, match=r"first module is StaticEmbedding.*must be"):
        load_encoder(backbone, None)


# Threads


def test_tokenization_is_thread_safe(encoder):
    """The call of transformers sets padding and truncation of a shared tokenizer."""
    rng = np.random.RandomState(0)
    chunks = [
        [" ".join(["the food was good"] * n) for n in rng.randint(1, 10, size=100)]
        for _ in range(8)
    ]
    expected = [encoder.tokenize(texts, with_offsets=True) for texts in chunks]
    with ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(lambda texts: encoder.tokenize(texts, with_offsets=True), chunks)
        )
    for tokenized, reference in zip(results, expected, strict=True):
        for tokens, expected_tokens in zip(tokenized, reference, strict=True):
            for field in ("ids", "content_mask", "offsets"):
                np.testing.assert_array_equal(
                    getattr(tokens, field), getattr(expected_tokens, field)
                )
