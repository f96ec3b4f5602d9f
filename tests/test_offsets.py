"""Content tokens, their offsets in the user's text, and prompts.

Nearly everything is tested on every model type, because tokenizers differ in special
tokens, in padding and in the characters of a token.
"""

import unicodedata
import warnings

import numpy as np
import pytest
import torch

from skprotolm._network.encoder import load_encoder
from skprotolm.exceptions import UnreadTextWarning
from tests.encoding import (
    LONG,
    TEXTS,
    batch_of,
    token_vectors,
    tokenize_one,
    with_prompt,
)

WITH_SPECIAL_TOKENS = ["bert", "distilbert", "mpnet", "roberta", "modernbert", "llama"]
WORD_PIECES = ["bert", "distilbert", "mpnet"]
BYTE_PAIRS = ["roberta", "modernbert", "gpt2", "llama"]


@pytest.fixture(scope="module")
def encoder(backbone):
    return load_encoder(backbone, None).eval()


@pytest.fixture(scope="module")
def prompted_encoder(backbone):
    return load_encoder(with_prompt(backbone), None).eval()


# Content tokens


def special_tokens(names, tokenizer):
    is_special = np.isin(names, tokenizer.all_special_tokens)
    return is_special & (np.array(names) != tokenizer.unk_token)


def test_special_tokens_are_not_content(backbone, encoder):
    for text in [*TEXTS, ("the food", "was good"), ("a", "")]:
        names, content, _, _ = tokenize_one(encoder, text)
        is_special = special_tokens(names, backbone.tokenizer)
        assert content.tolist() == (~is_special).tolist()


@pytest.mark.parametrize("model_type", WITH_SPECIAL_TOKENS, scope="module")
def test_special_tokens_are_added(backbone, encoder):
    names, _, _, _ = tokenize_one(encoder, "the food")
    assert special_tokens(names, backbone.tokenizer).any()


def test_padding_is_not_content(encoder):
    batch = batch_of(encoder, ["a", LONG[:100], "food"])
    assert not (batch["content_mask"] & (batch["attention_mask"] == 0)).any()
    assert (batch["attention_mask"] == 0).any()


def tokens_of_unknown_word(encoder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreadTextWarning)
        names, content, offsets, _ = tokenize_one(encoder, "food 漢 day")
    return [names[t] for t in np.flatnonzero(content) if offsets[t][0] == 5]


@pytest.mark.parametrize("model_type", WORD_PIECES, scope="module")
def test_the_unknown_token_is_content(encoder):
    assert tokens_of_unknown_word(encoder) == ["[UNK]"]


@pytest.mark.parametrize("model_type", BYTE_PAIRS, scope="module")
def test_bytes_of_an_unknown_word_are_content(encoder):
    assert tokens_of_unknown_word(encoder)


@pytest.mark.parametrize("special", ["[SEP]", "[CLS]", "[PAD]", "</s>", "<s>"])
def test_a_typed_special_token_is_content(special, encoder):
    text = f"good {special} food"
    names, content, offsets, _ = tokenize_one(encoder, text)
    covered = {i for (start, end) in offsets[content] for i in range(start, end)}
    assert {i for i, letter in enumerate(text) if letter != " "} <= covered
    plain, _, _, _ = tokenize_one(encoder, "good food")
    assert names.count(special) == plain.count(special)


@pytest.mark.parametrize("text", ["", ("", "")])
def test_an_empty_text_attends_to_special_tokens(text, encoder):
    names, content, offsets, segments = tokenize_one(encoder, text)
    assert content.all()
    assert offsets.tolist() == [[0, 0]] * len(names)
    assert segments.tolist() == [0] * len(names)
    assert set(names) <= set(encoder.transformer.tokenizer.all_special_tokens)
    h, batch = token_vectors(encoder, [text, "the food was good"])
    assert torch.isfinite(h).all()
    assert batch["content_mask"].any(dim=1).all()


@pytest.mark.parametrize("model_type", ["gpt2"], scope="module")
def test_a_text_without_any_token_gets_one(encoder):
    names, *_ = tokenize_one(encoder, "")
    assert names == [encoder.transformer.tokenizer.eos_token]


def test_a_pair_with_an_empty_text_attends_to_the_other_text(encoder):
    for pair, segment in [(("food", ""), 0), (("", "food"), 1)]:
        _, content, _, segments = tokenize_one(encoder, pair)
        assert content.any()
        assert set(segments[content]) == {segment}


# Offsets


def _decode(encoder, name):
    """Return a token's text in lower case without accents; "" for part of a letter."""
    decoder = encoder.transformer.tokenizer.backend_tokenizer.decoder
    text = decoder.decode([name]).removeprefix("##")
    return "" if "\ufffd" in text else _normalize(text)


def _normalize(text):
    decomposed = unicodedata.normalize("NFD", text.lower())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


@pytest.mark.parametrize("text", ["  the  food\n", *TEXTS, "😀😀 good 😀day"])
def test_offsets_are_slices_of_the_original_text(text, encoder):
    names, content, offsets, segments = tokenize_one(encoder, text)
    for name, (start, end) in zip(
        np.array(names)[content], offsets[content], strict=True
    ):
        assert 0 <= start < end <= len(text)
        decoded = _decode(encoder, name)
        if decoded == "":
            assert not text[start:end].isascii()
        elif name != "[UNK]":
            assert _normalize(text[start:end]) == decoded
    covered = {i for (start, end) in offsets[content] for i in range(start, end)}
    assert {i for i, letter in enumerate(text) if not letter.isspace()} <= covered
    assert (np.diff(offsets[content][:, 0]) >= 0).all()
    assert (segments == 0).all()
    assert (offsets[~content] == 0).all()


@pytest.mark.parametrize(
    "pair",
    [("the food", "was good"), ("😀 good 😀", "😀day and 😀"), ("a", LONG[:60])],
)
def test_offsets_of_a_pair_are_relative_to_each_text(pair, encoder):
    _, content, offsets, segments = tokenize_one(encoder, pair)
    for segment, text in enumerate(pair):
        in_segment = content & (segments == segment)
        _, single_content, expected, _ = tokenize_one(encoder, text)
        assert offsets[in_segment].tolist() == expected[single_content].tolist()
        covered = {i for (start, end) in offsets[in_segment] for i in range(start, end)}
        assert {i for i, letter in enumerate(text) if letter != " "} <= covered


def test_offsets_are_optional(encoder):
    with_offsets = encoder.tokenize(TEXTS, with_offsets=True)
    for tokens, expected in zip(encoder.tokenize(TEXTS), with_offsets, strict=True):
        assert tokens.offsets.size == tokens.segments.size == 0
        assert tokens.ids.tolist() == expected.ids.tolist()


def test_rows_are_selected_in_the_given_order(encoder):
    selected = encoder.tokenize(TEXTS, with_offsets=True).take(np.array([2, 0]))
    assert len(selected) == 2
    for row, text in enumerate([TEXTS[2], TEXTS[0]]):
        [single] = encoder.tokenize([text], with_offsets=True)
        assert selected[row].ids.tolist() == single.ids.tolist()
        assert selected[row].offsets.tolist() == single.offsets.tolist()
        assert selected.lengths[row] == len(single.ids)


# Prompts


def test_the_prompt_is_not_content_and_does_not_shift_offsets(
    prompted_encoder, encoder
):
    for text in ["food 😀 day", (" food", "😀 day"), "query: query: food"]:
        names, content, offsets, segments = tokenize_one(prompted_encoder, text)
        parts = (text,) if isinstance(text, str) else text
        for segment, part in enumerate(parts):
            spans = offsets[content & (segments == segment)]
            assert (spans[:, 0] < spans[:, 1]).all()
            assert spans.max() <= len(part)
            covered = {i for (start, end) in spans for i in range(start, end)}
            assert {i for i, c in enumerate(part) if c != " "} <= covered
        plain, *_ = tokenize_one(encoder, text)
        assert len(names) > len(plain)  # with the prompt


@pytest.mark.parametrize(
    ("model_type", "tolerance"),
    # A byte pair tokenizer may merge a word with the space at the end of the prompt.
    [(name, 0) for name in WORD_PIECES] + [(name, 1) for name in BYTE_PAIRS],
    scope="module",
)
def test_a_prompt_does_not_change_the_number_of_content_tokens(
    prompted_encoder, encoder, tolerance
):
    for text in ["food was good", "😀", ("food", "good day")]:
        prompted, plain = (
            tokenize_one(e, text)[1] for e in (prompted_encoder, encoder)
        )
        assert abs(prompted.sum() - plain.sum()) <= tolerance


def test_an_empty_text_with_a_prompt_does_not_attend_to_the_prompt(
    prompted_encoder, encoder
):
    """Tokenizers without special tokens marked the prompt's tokens."""
    names, content, offsets, _ = tokenize_one(prompted_encoder, "")
    empty, *_ = tokenize_one(encoder, "")
    assert set(np.array(names)[content]) <= set(empty)
    assert content.any()
    assert (offsets == 0).all()


def test_an_empty_prompt_has_no_effect(backbone, encoder):
    named = load_encoder(with_prompt(backbone, ""), None)
    assert tokenize_one(named, "food")[0] == tokenize_one(encoder, "food")[0]
