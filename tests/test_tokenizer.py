"""Long texts are tokenized in part, truncated and reported."""

from __future__ import annotations

import copy
import re
import warnings
from typing import Any

import numpy as np
import pytest

from skprotolm._network.encoder import load_encoder
from skprotolm._network.long_texts import TextPart, chunk_parts, select_part
from skprotolm.exceptions import TextTruncatedWarning

WORDS = ["the", "food", "was", "good", "film", "naïve", "card", ",", "!", "123"]


def long_texts(n: int = 6, n_words: int = 1500) -> list[str]:
    rng = np.random.RandomState(0)
    separators = [" ", "\n", "  ", "\t", " - ", ""]
    return [separators[i].join(rng.choice(WORDS, n_words)) for i in range(n)]


def tokenize_quietly(encoder: Any, texts: list, **options: Any) -> Any:
    return encoder.tokenize(texts, quiet=True, **options)


@pytest.mark.parametrize("side", ["right", "left"])
def test_tokens_of_a_long_text_equal_those_of_transformers(backbone, side):
    """Tokenizing only a part of the text does not change its tokens."""
    changed = copy.deepcopy(backbone)
    changed.tokenizer.truncation_side = side
    texts = long_texts()
    expected = [
        changed.tokenizer(text, truncation=True, max_length=64)["input_ids"]
        for text in texts
    ]
    tokenized = tokenize_quietly(load_encoder(changed, None), texts, with_offsets=True)
    assert [tokens.ids.tolist() for tokens in tokenized] == expected
    for text, tokens in zip(texts, tokenized, strict=True):
        offsets = tokens.offsets[tokens.content_mask]
        start, end = offsets[:, 0].min(), offsets[:, 1].max()
        n_words = len(text[start:end].split())
        assert start < 3 if side == "right" else end > len(text) - 3
        assert 0 < n_words < 65


def test_tokens_of_a_long_pair_equal_those_of_transformers(backbone):
    [first, second, *_] = long_texts()
    # An even number of content tokens, so that both texts get equally many.
    max_length = 64 - backbone.tokenizer.num_special_tokens_to_add(pair=True) % 2
    encoder = load_encoder(backbone, max_length)
    for pair in [(first, "good food"), ("good food", second), (first, second)]:
        expected = backbone.tokenizer(*pair, truncation=True, max_length=max_length)
        assert (
            tokenize_quietly(encoder, [pair])[0].ids.tolist() == expected["input_ids"]
        )


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_small_part_of_a_long_text_is_tokenized(side):
    """Tokenizing 300 texts of 100 KB took a gigabyte and 20 seconds."""
    sizes = []

    def tokenize(text: str) -> list[str]:
        sizes.append(len(text))
        return text.split()

    text = " ".join(str(i) for i in range(20_000))
    part = select_part((text, "good food"), 64, tokenize, side)
    assert part.full_texts == (text, "good food")
    assert part.texts[1] == "good food"
    assert sum(sizes) < 64 * 40
    words = part.texts[0].split()
    assert 64 < len(words)
    ends = {"right": text.split()[: len(words)], "left": text.split()[-len(words) :]}
    assert words == ends[side]
    assert text[part.starts[0] :].startswith(part.texts[0])


def test_a_part_grows_until_it_has_enough_tokens():
    """A word of any length can be a single token."""
    text = "x" * 50_000 + " good" * 50_000
    part = select_part(text, 64, str.split, "right")
    assert 64 < len(part.texts[0].split())
    assert len(part.texts[0]) < len(text)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([400_000] * 7, [2, 2, 2, 1]), ([2**21, 1, 1], [1, 2]), ([1] * 1500, [1024, 476])],
)
def test_chunks_are_limited_in_texts_and_characters(sizes, expected):
    parts = [TextPart(("x" * n,), ("x" * n,), (0,)) for n in sizes]
    chunks = list(chunk_parts(parts))
    assert [len(chunk) for chunk in chunks] == expected
    assert [part for chunk in chunks for part in chunk] == parts


def test_a_long_word_is_one_unknown_token(tiny_bert):
    encoder = load_encoder(tiny_bert, None)
    tokenized = tokenize_quietly(encoder, ["x" * 400_000] * 7)
    assert tokenized.lengths.tolist() == [3] * 7


def test_the_truncation_warning_names_the_share_and_a_larger_max_length(backbone):
    text = " ".join(["good"] * 400)
    encoder = load_encoder(backbone, 60)
    with pytest.warns(TextTruncatedWarning) as warned:
        tokens, _ = encoder.tokenize([text, "good"], with_offsets=True)
    [message] = [str(warning.message) for warning in warned]
    read = tokens.offsets[tokens.content_mask][:, 1].max()
    assert "1 of 2 texts are longer than max_length=60 tokens" in message
    share = re.search(r"and ([\d.]+) % of their characters are not read", message)
    assert float(share[1]) == pytest.approx(100 * (1 - read / len(text)), abs=0.06)
    advice = r"Set max_length=(\d+) to read more, or long_text='window' to read all"
    limit = int(re.search(advice, message)[1])
    with pytest.warns(TextTruncatedWarning, match="cannot read more.*long_text="):
        load_encoder(backbone, limit).tokenize([text])


def test_characters_that_the_tokenizer_drops_are_not_truncated(tiny_bert):
    """The last token ends before the end of the text."""
    encoder = load_encoder(tiny_bert, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.tokenize(["good food was good\x00\x00 \x01 "])
    with pytest.warns(TextTruncatedWarning, match="1 of 1 texts"):
        encoder.tokenize(["good food was good\x00\x00 a"])


def test_a_truncated_text_of_a_pair_is_reported(tiny_bert):
    encoder = load_encoder(tiny_bert, 16)
    for pair in [("good " * 40, "food"), ("food", "good " * 40)]:
        with pytest.warns(TextTruncatedWarning, match="1 of 1 texts"):
            encoder.tokenize([pair])
