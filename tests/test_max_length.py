"""Limits of `max_length`, and the truncation of long texts."""

import copy
import warnings

import pytest

from skprotolm._network.encoder import load_encoder
from skprotolm.exceptions import TextTruncatedWarning
from tests.encoding import (
    LONG,
    token_vectors,
    tokenize_one,
    with_prompt,
)

N_POSITIONS = 66  # of the tiny encoders


@pytest.fixture(scope="module")
def encoder(backbone):
    return load_encoder(backbone, None).eval()


def length_of(encoder, text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextTruncatedWarning)
        return int(encoder.tokenize([text]).lengths[0])


@pytest.mark.parametrize("max_length", [8, 20, 64])
def test_max_length_includes_special_tokens(max_length, backbone):
    encoder = load_encoder(backbone, max_length)
    assert encoder.max_length == max_length
    assert length_of(encoder, LONG) == max_length
    assert length_of(encoder, (LONG, LONG)) == max_length
    assert length_of(encoder, "a") < max_length


def test_the_default_max_length_is_the_models(backbone, encoder):
    assert encoder.max_length == 64
    shorter = copy.deepcopy(backbone)
    shorter.max_seq_length = 12
    assert load_encoder(shorter, None).max_length == 12


def test_texts_of_every_accepted_max_length_can_be_encoded(backbone):
    """MPNet's positions start at 2, whatever its padding token is."""
    accepted = []
    for max_length in range(60, N_POSITIONS + 3):
        try:
            encoder = load_encoder(backbone, max_length).eval()
        except ValueError:
            continue
        accepted.append(max_length)
        with pytest.warns(TextTruncatedWarning):
            h, _ = token_vectors(encoder, [LONG])
        assert h.shape[1] == max_length
    assert accepted[0] == 60
    assert 64 <= accepted[-1] <= N_POSITIONS


def test_without_a_tokenizer_limit_max_length_is_limited_by_positions(backbone):
    unlimited = copy.deepcopy(backbone)
    unlimited.tokenizer.model_max_length = int(1e30)
    encoder = load_encoder(unlimited, None).eval()
    with pytest.warns(TextTruncatedWarning):
        h, _ = token_vectors(encoder, [LONG])
    assert 64 <= h.shape[1] <= N_POSITIONS


@pytest.mark.parametrize("max_length", [N_POSITIONS + 1, 10_000])
def test_max_length_beyond_the_positions_raises_an_error(max_length, backbone):
    message = f"max_length must be at most 6[3-6], .* got {max_length}"
    with pytest.raises(ValueError, match=message):
        load_encoder(backbone, max_length)


def test_max_length_without_room_for_text_raises_an_error(backbone):
    n_special = backbone.tokenizer.num_special_tokens_to_add(pair=True)
    for max_length in range(1, n_special + 1):
        with pytest.raises(ValueError, match="max_length must be more than"):
            load_encoder(backbone, max_length)
    encoder = load_encoder(backbone, n_special + 1)
    assert length_of(encoder, "food") <= n_special + 1


def test_max_length_without_room_after_the_prompt_raises_an_error(tiny_bert):
    """All texts had the same vector, because only the prompt was read."""
    with pytest.raises(ValueError, match=r"max_length .*prompt"):
        load_encoder(with_prompt(tiny_bert, "a very long prompt of many words: "), 6)


def test_a_text_of_max_length_is_not_reported_as_truncated(encoder):
    n_special = length_of(encoder, "a") - 1
    text = " ".join(["a"] * (encoder.max_length - n_special))
    assert encoder.tokenize([text]).lengths.tolist() == [encoder.max_length]
    with pytest.warns(TextTruncatedWarning, match="1 of 1 texts"):
        encoder.tokenize([text + " a"])


def test_many_long_texts_give_one_warning(encoder):
    texts = ["a", LONG] * 800  # more than one chunk
    with pytest.warns(TextTruncatedWarning) as warned:
        encoder.tokenize(texts)
    [warning] = warned
    assert "800 of 1600 texts" in str(warning.message)
    assert "max_length=64" in str(warning.message)


def test_a_truncated_pair_has_tokens_of_both_texts(encoder):
    with pytest.warns(TextTruncatedWarning):
        _, content, _, segments = tokenize_one(encoder, (LONG, LONG))
    assert set(segments[content]) == {0, 1}


@pytest.mark.parametrize(
    ("model_type", "text"),
    [
        pytest.param("bert", "good food " * 100_000, id="bert-words"),
        pytest.param("roberta", "good food " * 100_000, id="roberta-words"),
        pytest.param("roberta", "x" * 1_000_000, id="roberta-one-word"),
    ],
    scope="module",
)
def test_a_text_of_a_million_characters_is_truncated_with_one_warning(text, encoder):
    with pytest.warns(TextTruncatedWarning) as warned:
        tokenized = encoder.tokenize([text])
    assert len(warned) == 1
    assert tokenized.lengths.tolist() == [64]


def test_texts_are_truncated_at_the_tokenizers_truncation_side(tiny_bert):
    changed = copy.deepcopy(tiny_bert)
    changed.tokenizer.truncation_side = "left"
    encoder = load_encoder(changed, 8)
    with pytest.warns(TextTruncatedWarning):
        _, content, offsets, _ = tokenize_one(encoder, LONG)
    assert offsets[content].max() == len(LONG)
