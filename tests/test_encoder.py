"""Texts to token vectors: own tokens, offsets, padding, prompts, and what is refused.

Nearly everything is tested on every architecture, since tokenizers differ in what
they add to a text, where they pad, and what a token is.
"""

import copy
import unicodedata
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import ByT5Tokenizer

from skprotolm._network.encoder import load_encoder
from skprotolm.exceptions import TextTruncatedWarning, UnreadTextWarning
from tests.tiny import HIDDEN, make_encoder

try:
    from sentence_transformers.sentence_transformer import modules
except ImportError:  # sentence-transformers before 6
    from sentence_transformers import models as modules

PROMPT = "query: "
TEXTS = ["the food was good", "a", "café 😀 naïve 123 – what a day!", "3.75"]
LONG = " ".join(["the food was good"] * 40)
ADDS_NOTHING = ("gpt2",)  # to a text: no special token
BYTE_PAIRS = ("roberta", "modernbert", "gpt2", "llama")
POSITIONS = 66  # of every tiny encoder


@pytest.fixture(scope="module")
def encoder(backbone):
    return load_encoder(backbone, None).eval()


def prompted(backbone, prompt=PROMPT):
    changed = copy.deepcopy(backbone)
    changed.prompts = {"search": prompt}
    changed.default_prompt_name = "search"
    return changed


@pytest.fixture(scope="module")
def prompted_encoder(backbone):
    return load_encoder(prompted(backbone), None).eval()


def one(encoder, text):
    """Return one text's token names, own mask, offsets and segments."""
    tokenized = encoder.tokenize([text], with_offsets=True)
    names = [encoder.tokenizer.token_name(int(i)) for i in tokenized.ids[0]]
    return names, tokenized.own[0], tokenized.offsets[0], tokenized.segments[0]


def batch_of(encoder, texts):
    tokenized = encoder.tokenize(texts)
    return encoder.tokenizer.collate(tokenized, np.arange(len(texts)))


def token_vectors(encoder, texts):
    batch = batch_of(encoder, texts)
    with torch.inference_mode():
        return encoder(batch, bf16=False), batch


# Own tokens


def test_what_the_tokenizer_adds_is_never_own(kind, backbone, encoder):
    tokenizer = backbone.tokenizer
    for text in [*TEXTS, ("the food", "was good"), ("a", "")]:
        names, own, _, _ = one(encoder, text)
        added = np.isin(names, tokenizer.all_special_tokens)
        added &= np.array(names) != tokenizer.unk_token  # stands for a word
        assert own.tolist() == (~added).tolist()
        assert added.any() == (kind not in ADDS_NOTHING)


def test_padding_is_never_own(encoder):
    batch = batch_of(encoder, ["a", LONG[:100], "food"])
    assert not (batch["own"] & (batch["attention_mask"] == 0)).any()
    assert (batch["attention_mask"] == 0).any()


def test_a_word_that_the_tokenizer_does_not_know_is_own(kind, encoder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreadTextWarning)
        names, own, offsets, _ = one(encoder, "food 漢 day")
    middle = [t for t, (start, _) in enumerate(offsets) if own[t] and start == 5]
    assert middle
    if kind not in BYTE_PAIRS:
        assert [names[t] for t in middle] == ["[UNK]"]


@pytest.mark.parametrize("special", ["[SEP]", "[CLS]", "[PAD]", "</s>", "<s>"])
def test_a_special_token_that_the_user_typed_is_text(special, encoder):
    text = f"good {special} food"
    names, own, offsets, _ = one(encoder, text)
    covered = {i for (start, end) in offsets[own] for i in range(start, end)}
    assert {i for i, letter in enumerate(text) if letter != " "} <= covered
    plain, _, _, _ = one(encoder, "good food")
    assert names.count(special) == plain.count(special)


@pytest.mark.parametrize("text", ["", ("", "")])
def test_an_empty_text_attends_to_what_the_tokenizer_adds(text, kind, encoder):
    names, own, offsets, segments = one(encoder, text)
    assert own.all()
    assert offsets.tolist() == [[0, 0]] * len(names)
    assert segments.tolist() == [0] * len(names)
    tokenizer = encoder.transformer.tokenizer
    if kind in ADDS_NOTHING:
        assert names == [tokenizer.eos_token]
    else:
        assert set(names) <= set(tokenizer.all_special_tokens)
    h, batch = token_vectors(encoder, [text, "the food was good"])
    assert torch.isfinite(h).all()
    assert batch["own"].any(dim=1).all()


def test_half_an_empty_pair_attends_to_the_other_half(encoder):
    for pair, segment in [(("food", ""), 0), (("", "food"), 1)]:
        _, own, _, segments = one(encoder, pair)
        assert own.any()
        assert set(segments[own]) == {segment}


# Offsets


def _written(encoder, name):
    """What a token says, in small letters without accents; "" where it is bytes."""
    decoder = encoder.transformer.tokenizer.backend_tokenizer.decoder
    said = decoder.decode([name]).removeprefix("##")
    return "" if "\ufffd" in said else _plain(said)


def _plain(text):
    decomposed = unicodedata.normalize("NFD", text.lower())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


@pytest.mark.parametrize("text", ["  the  food\n", *TEXTS, "😀😀 good 😀day"])
def test_offsets_slice_the_text_as_it_was_written(text, encoder):
    names, own, offsets, segments = one(encoder, text)
    for name, (start, end) in zip(np.array(names)[own], offsets[own], strict=True):
        assert 0 <= start < end <= len(text)
        said = _written(encoder, name)
        if said == "":
            assert not text[start:end].isascii()
        elif name != "[UNK]":
            assert _plain(text[start:end]) == said
    covered = {i for (start, end) in offsets[own] for i in range(start, end)}
    assert {i for i, letter in enumerate(text) if not letter.isspace()} <= covered
    assert (np.diff(offsets[own][:, 0]) >= 0).all()
    assert (segments == 0).all()
    assert (offsets[~own] == 0).all()


@pytest.mark.parametrize(
    "pair",
    [("the food", "was good"), ("😀 good 😀", "😀day and 😀"), ("a", LONG[:60])],
)
def test_offsets_count_within_each_text_of_a_pair(pair, encoder):
    _, own, offsets, segments = one(encoder, pair)
    for segment, text in enumerate(pair):
        mine = own & (segments == segment)
        _, alone, expected, _ = one(encoder, text)
        assert offsets[mine].tolist() == expected[alone].tolist()
        covered = {i for (start, end) in offsets[mine] for i in range(start, end)}
        assert {i for i, letter in enumerate(text) if letter != " "} <= covered


def test_offsets_are_left_out_unless_asked_for(encoder):
    tokenized = encoder.tokenize(TEXTS)
    assert tokenized.offsets is None
    assert tokenized.segments is None
    with_offsets = encoder.tokenize(TEXTS, with_offsets=True)
    for mine, theirs in zip(tokenized.ids, with_offsets.ids, strict=True):
        assert mine.tolist() == theirs.tolist()


def test_rows_can_be_taken_in_any_order(encoder):
    some = encoder.tokenize(TEXTS, with_offsets=True).take(np.array([2, 0]))
    assert len(some) == 2
    for row, text in enumerate([TEXTS[2], TEXTS[0]]):
        alone = encoder.tokenize([text], with_offsets=True)
        assert some.ids[row].tolist() == alone.ids[0].tolist()
        assert some.offsets[row].tolist() == alone.offsets[0].tolist()
        assert some.lengths[row] == len(alone.ids[0])


# Padding


def test_padding_stands_on_the_right_even_where_the_tokenizer_pads_left(encoder):
    tokenized = encoder.tokenize(TEXTS)
    batch = encoder.tokenizer.collate(tokenized, np.arange(len(TEXTS)))
    expected = [[1] * n + [0] * (max(tokenized.lengths) - n) for n in tokenized.lengths]
    assert batch["attention_mask"].tolist() == expected


@pytest.mark.parametrize("text", [*TEXTS, "", ("the food", "was good")])
def test_padding_never_changes_token_vectors(text, encoder):
    neighbour = LONG[:150] if isinstance(text, str) else (LONG[:70], LONG[:70])
    alone, _ = token_vectors(encoder, [text])
    padded, batch = token_vectors(encoder, [neighbour, text])
    n = alone.shape[1]
    assert batch["attention_mask"][1].sum() == n < padded.shape[1]
    torch.testing.assert_close(padded[1, :n], alone[0], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def typed_bert(tmp_path_factory):
    """A BERT whose tokenizer says which text of a pair a token belongs to."""
    backbone = make_encoder("bert", tmp_path_factory.mktemp("typed"))
    names = ["input_ids", "token_type_ids", "attention_mask"]
    backbone.tokenizer.model_input_names = names
    return backbone


def test_pairs_come_with_the_types_of_their_texts_where_the_model_reads_them(
    typed_bert,
):
    pairs = [("the food", "was good"), ("a", "b")]
    encoder = load_encoder(typed_bert, None).eval()
    h, batch = token_vectors(encoder, pairs)
    for row, pair in enumerate(pairs):
        _, own, _, segments = one(encoder, pair)
        types = batch["token_type_ids"][row, : len(own)].numpy()
        assert types[own].tolist() == segments[own].tolist()
    with torch.inference_mode():
        vectors = encoder.sentence_vectors(batch, h).numpy()
    np.testing.assert_allclose(vectors, typed_bert.encode(pairs), rtol=0, atol=1e-5)
    untyped = copy.deepcopy(typed_bert)
    untyped.tokenizer.model_input_names = ["input_ids", "attention_mask"]
    assert "token_type_ids" not in batch_of(load_encoder(untyped, None), pairs)


# What SentenceTransformer.encode gives


def _reference(backbone, texts):
    """Encode texts one at a time, so that the tokenizer's side of padding is moot."""
    reference = copy.deepcopy(backbone)
    if reference.tokenizer.pad_token is None:
        reference.tokenizer.pad_token = reference.tokenizer.eos_token
    return reference.encode(texts, batch_size=1)


@pytest.mark.parametrize(
    ("prompt", "include_prompt"), [(None, True), (PROMPT, True), (PROMPT, False)]
)
@pytest.mark.parametrize(
    ("pooling", "normalised"),
    [("mean", False), ("mean", True), ("cls", False), ("lasttoken", True)],
)
def test_sentence_vectors_are_those_of_sentence_transformers(
    pooling, normalised, include_prompt, prompt, backbone
):
    parts = [
        copy.deepcopy(backbone[0]),
        modules.Pooling(HIDDEN, pooling, include_prompt=include_prompt),
        *([modules.Normalize()] if normalised else []),
    ]
    changed = SentenceTransformer(modules=parts, device="cpu")
    if prompt:
        changed = prompted(changed, prompt)
    encoder = load_encoder(changed, None).eval()
    h, batch = token_vectors(encoder, TEXTS)
    with torch.inference_mode():
        vectors = encoder.sentence_vectors(batch, h).numpy()
    expected = _reference(changed, TEXTS)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)


def test_sentence_vectors_of_pairs_are_those_of_sentence_transformers(encoder):
    pairs = [("the food", "was good"), ("a", "bad film")]
    h, batch = token_vectors(encoder, pairs)
    with torch.inference_mode():
        vectors = encoder.sentence_vectors(batch, h).numpy()
    expected = _reference(encoder.sentence_transformer, pairs)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)


def test_vectors_in_bfloat16_come_back_in_the_precision_of_the_weights(encoder):
    batch = batch_of(encoder, TEXTS)
    with torch.inference_mode():
        exact, rough = (encoder(batch, bf16=bf16) for bf16 in (False, True))
    assert exact.dtype == rough.dtype == torch.float32
    assert exact.shape == rough.shape == (*batch["own"].shape, encoder.hidden_size)
    assert 0 < (exact - rough).abs().max() < 0.2


# Prompts


def test_a_prompt_is_never_own_and_offsets_count_in_the_users_text(
    prompted_encoder, encoder
):
    for text in ["food 😀 day", (" food", "😀 day"), "query: query: food"]:
        names, own, offsets, segments = one(prompted_encoder, text)
        parts = (text,) if isinstance(text, str) else text
        for segment, part in enumerate(parts):
            spans = offsets[own & (segments == segment)]
            assert (spans[:, 0] < spans[:, 1]).all()
            assert spans.max() <= len(part)
            covered = {i for (start, end) in spans for i in range(start, end)}
            assert {i for i, c in enumerate(part) if c != " "} <= covered
        plain, *_ = one(encoder, text)
        assert len(names) > len(plain)  # the prompt is read


def test_as_many_tokens_are_own_with_a_prompt_as_without(
    kind, prompted_encoder, encoder
):
    for text in ["food was good", "😀", ("food", "good day")]:
        # Behind the prompt's space a byte pair tokenizer may merge another way.
        tolerance = 1 if kind in BYTE_PAIRS else 0
        with_prompt, without = (one(e, text)[1] for e in (prompted_encoder, encoder))
        assert abs(with_prompt.sum() - without.sum()) <= tolerance


def test_an_empty_text_behind_a_prompt_attends_to_no_token_of_the_prompt(
    prompted_encoder, encoder
):
    """Where the tokenizer adds no token, the prompt's own tokens took its place."""
    names, own, offsets, _ = one(prompted_encoder, "")
    empty, *_ = one(encoder, "")
    assert set(np.array(names)[own]) <= set(empty)
    assert own.any()
    assert (offsets == 0).all()


def test_a_name_without_a_prompt_adds_nothing(backbone, encoder):
    named = load_encoder(prompted(backbone, ""), None)
    assert one(named, "food")[0] == one(encoder, "food")[0]


# Lengths


def length_of(encoder, text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextTruncatedWarning)
        return int(encoder.tokenize([text]).lengths[0])


@pytest.mark.parametrize("max_length", [8, 20, 64])
def test_max_length_is_obeyed_special_tokens_included(max_length, backbone):
    encoder = load_encoder(backbone, max_length)
    assert encoder.max_length == max_length
    assert length_of(encoder, LONG) == max_length
    assert length_of(encoder, (LONG, LONG)) == max_length
    assert length_of(encoder, "a") < max_length


def test_the_models_own_limit_is_the_default(backbone, encoder):
    assert encoder.max_length == 64
    shorter = copy.deepcopy(backbone)
    shorter.max_seq_length = 12
    assert load_encoder(shorter, None).max_length == 12


def test_the_longest_text_that_is_allowed_can_be_encoded(backbone):
    """MPNet's positions start at 2 whatever its padding token, so one fits less."""
    allowed = []
    for max_length in range(60, POSITIONS + 3):
        try:
            encoder = load_encoder(backbone, max_length).eval()
        except ValueError:
            continue
        allowed.append(max_length)
        with pytest.warns(TextTruncatedWarning):
            h, _ = token_vectors(encoder, [LONG])
        assert h.shape[1] == max_length
    assert allowed[0] == 60
    assert 64 <= allowed[-1] <= POSITIONS


def test_a_tokenizer_without_a_limit_is_bound_by_the_positions(backbone):
    unbound = copy.deepcopy(backbone)
    unbound.tokenizer.model_max_length = int(1e30)
    encoder = load_encoder(unbound, None).eval()
    with pytest.warns(TextTruncatedWarning):
        h, _ = token_vectors(encoder, [LONG])
    assert 64 <= h.shape[1] <= POSITIONS


@pytest.mark.parametrize(
    ("max_length", "message"),
    [
        (POSITIONS + 1, "max_length must be at most 6[3-6], .* got 67"),
        (10_000, "max_length must be at most 6[3-6], .* got 10000"),
    ],
)
def test_a_max_length_beyond_the_positions_is_refused(max_length, message, backbone):
    with pytest.raises(ValueError, match=message):
        load_encoder(backbone, max_length)


def test_a_max_length_that_leaves_no_room_for_text_is_refused(kind, backbone):
    added = backbone.tokenizer.num_special_tokens_to_add(pair=True)
    for max_length in range(1, added + 1):
        with pytest.raises(ValueError, match="max_length must be more than"):
            load_encoder(backbone, max_length)
    encoder = load_encoder(backbone, added + 1)
    assert length_of(encoder, "food") <= added + 1


def test_a_max_length_that_the_prompt_fills_is_refused(tiny_bert):
    """Nothing of any text was read then, and all texts became one vector."""
    with pytest.raises(ValueError, match=r"max_length .*prompt"):
        load_encoder(prompted(tiny_bert, "a very long prompt of many words: "), 6)


def test_a_text_at_the_limit_is_not_called_cut(encoder):
    n_added = length_of(encoder, "a") - 1
    fits = " ".join(["a"] * (encoder.max_length - n_added))
    assert encoder.tokenize([fits]).lengths.tolist() == [encoder.max_length]
    with pytest.warns(TextTruncatedWarning, match="1 of 1 texts"):
        encoder.tokenize([fits + " a"])


def test_long_texts_warn_once_however_many_they_are(encoder):
    texts = ["a", LONG] * 800  # more than are tokenised at once
    with pytest.warns(TextTruncatedWarning) as caught:
        encoder.tokenize(texts)
    [warning] = caught
    assert "800 of 1600 texts" in str(warning.message)
    assert "max_length=64" in str(warning.message)


def test_a_cut_pair_keeps_something_of_both_texts(encoder):
    with pytest.warns(TextTruncatedWarning):
        _, own, _, segments = one(encoder, (LONG, LONG))
    assert set(segments[own]) == {0, 1}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param("bert", "good food " * 100_000, id="bert-words"),
        pytest.param("roberta", "good food " * 100_000, id="roberta-words"),
        pytest.param("roberta", "x" * 1_000_000, id="roberta-one-word"),
    ],
    scope="module",
)
def test_a_text_of_a_million_characters_is_cut_with_one_warning(text, encoder):
    with pytest.warns(TextTruncatedWarning) as caught:
        tokenized = encoder.tokenize([text])
    assert len(caught) == 1
    assert tokenized.lengths.tolist() == [64]


def test_the_end_that_the_tokenizer_cuts_is_cut(tiny_bert):
    changed = copy.deepcopy(tiny_bert)
    changed.tokenizer.truncation_side = "left"
    encoder = load_encoder(changed, 8)
    with pytest.warns(TextTruncatedWarning):
        _, own, offsets, _ = one(encoder, LONG)
    assert offsets[own].max() == len(LONG)


# Whose object is what


def _facts(backbone):
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


def test_the_users_model_is_never_modified(backbone):
    before = _facts(backbone)
    encoder = load_encoder(backbone, 16).train()
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    with pytest.warns(TextTruncatedWarning):
        batch = batch_of(encoder, [LONG, "a"])
    encoder(batch, bf16=False).square().sum().backward()
    optimizer.step()
    encoder.requires_grad_(False)
    after = _facts(backbone)
    weights = before.pop("weights")
    for name, weight in after.pop("weights").items():
        assert torch.equal(weight, weights[name])
    assert after == before


@pytest.mark.parametrize("kind", ["gpt2", "llama"], scope="module")
def test_a_missing_padding_token_is_set_on_our_copy_alone(backbone, encoder):
    assert backbone.tokenizer.pad_token is None
    ours = encoder.transformer.tokenizer
    assert ours.pad_token == ours.eos_token is not None


@pytest.mark.parametrize("kind", ["bert"], scope="module")
def test_changing_the_users_tokenizer_later_changes_nothing_here(backbone):
    mine = copy.deepcopy(backbone)
    encoder = load_encoder(mine, None)
    before = one(encoder, "good food")[0]
    mine.tokenizer.add_tokens(["good food"])
    mine.max_seq_length = 3
    assert one(encoder, "good food")[0] == before


# What is refused


def test_a_slow_tokenizer_is_refused(tmp_path):
    make_encoder("bert", tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    ByT5Tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"ByT5Tokenizer.*fast tokenizer is needed"):
        load_encoder(tmp_path, None)


def test_a_folder_without_the_tokenizers_files_is_refused(tmp_path):
    """It was loaded with a tokenizer that turned every text into [UNK]."""
    make_encoder("bert", tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"tokenizer"):
        load_encoder(tmp_path, None)


def test_a_first_module_that_gives_no_token_vectors_is_refused(tiny_bert):
    static = modules.StaticEmbedding(tiny_bert.tokenizer, embedding_dim=8)
    backbone = SentenceTransformer(modules=[static], device="cpu")
    with pytest.raises(ValueError, match=r"first module is StaticEmbedding.*must be"):
        load_encoder(backbone, None)


# Threads


def test_four_threads_tokenise_as_one_does(encoder):
    """The call of transformers changes padding and truncation of a shared tokenizer."""
    rng = np.random.RandomState(0)
    chunks = [
        [" ".join(["the food was good"] * n) for n in rng.randint(1, 10, size=100)]
        for _ in range(8)
    ]
    expected = [encoder.tokenize(texts, with_offsets=True) for texts in chunks]
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda texts: encoder.tokenize(texts, with_offsets=True), chunks)
        )
    for mine, theirs in zip(found, expected, strict=True):
        for field in ("ids", "own", "offsets"):
            for a, b in zip(getattr(mine, field), getattr(theirs, field), strict=True):
                np.testing.assert_array_equal(a, b)
