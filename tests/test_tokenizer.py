"""What is read of a text: long ones, and words that the tokenizer does not know."""

from __future__ import annotations

import copy
import re
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from skprotolm import Explanations, ProtoLMClassifier
from skprotolm._network.encoder import load_encoder
from skprotolm.exceptions import TextTruncatedWarning, UnreadTextWarning

WORDS = ["the", "food", "was", "good", "film", "naïve", "card", ",", "!", "123"]
BYTE_PAIRS = ("roberta", "modernbert", "gpt2", "llama")


def long_texts(n: int = 6, n_words: int = 1500) -> list[str]:
    rng = np.random.RandomState(0)
    separators = [" ", "\n", "  ", "\t", " - ", ""]
    return [separators[i].join(rng.choice(WORDS, n_words)) for i in range(n)]


def silently(encoder: Any, texts: list, **options: Any) -> Any:
    return encoder.tokenize(texts, quiet=True, **options)


# --- Long texts.


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_long_text_has_the_tokens_that_its_tokenizer_gives(backbone, side):
    """Only a part of it is tokenized, which must not be seen."""
    changed = copy.deepcopy(backbone)
    changed.tokenizer.truncation_side = side
    texts = long_texts()
    expected = [
        changed.tokenizer(text, truncation=True, max_length=64)["input_ids"]
        for text in texts
    ]
    tokenized = silently(load_encoder(changed, None), texts, with_offsets=True)
    assert [ids.tolist() for ids in tokenized.ids] == expected
    for text, own, offsets in zip(texts, tokenized.own, tokenized.offsets, strict=True):
        begin, end = offsets[own][:, 0].min(), offsets[own][:, 1].max()
        read = len(text[begin:end].split())
        assert begin < 3 if side == "right" else end > len(text) - 3
        assert 0 < read < 65


def test_a_long_pair_has_the_tokens_that_its_tokenizer_gives(backbone):
    [first, second, *_] = long_texts()
    # An even number of tokens is left for both, so that neither gets one more.
    max_length = 64 - backbone.tokenizer.num_special_tokens_to_add(pair=True) % 2
    encoder = load_encoder(backbone, max_length)
    for pair in [(first, "good food"), ("good food", second), (first, second)]:
        expected = backbone.tokenizer(*pair, truncation=True, max_length=max_length)
        assert silently(encoder, [pair]).ids[0].tolist() == expected["input_ids"]


class Recorder:
    """Stands before a tokenizer and counts the characters that it is given."""

    def __init__(self, tokenizer: Any, batches: list[int]):
        self.tokenizer = tokenizer
        self.batches = batches

    def encode_batch(self, texts: list[str]) -> Any:
        self.batches.append(sum(map(len, texts)))
        return self.tokenizer.encode_batch(texts)

    def encode(self, text: str, **options: Any) -> Any:
        self.batches.append(len(text))
        return self.tokenizer.encode(text, **options)


def recorded(encoder: Any) -> list[int]:
    """Return what will hold the characters of each call of the encoder's tokenizers."""
    batches: list[int] = []
    for name in ("_truncating", "_untruncated"):
        inner = getattr(encoder.tokenizer, name)
        setattr(encoder.tokenizer, name, Recorder(inner, batches))
    return batches


def test_characters_that_cannot_matter_are_not_tokenized(tiny_bert):
    """300 texts of 100 KB took a gigabyte and 20 seconds."""
    encoder = load_encoder(tiny_bert, None)
    batches = recorded(encoder)
    silently(encoder, ["good food " * 10_000] * 300)
    assert sum(batches) < 300 * 64 * 40


def test_texts_are_tokenized_in_chunks_of_characters(tiny_bert):
    """A single word of any length is one token, so all of it has to be read."""
    encoder = load_encoder(tiny_bert, None)
    batches = recorded(encoder)
    tokenized = silently(encoder, ["x" * 400_000] * 7)
    assert max(batches) <= 2**20
    assert tokenized.lengths.tolist() == [3] * 7  # the unknown token, as it ever was


def test_the_warning_says_how_much_is_cut_and_what_reads_more(backbone):
    text = " ".join(["good"] * 400)
    encoder = load_encoder(backbone, 60)
    with pytest.warns(TextTruncatedWarning) as caught:
        tokenized = encoder.tokenize([text, "good"], with_offsets=True)
    [message] = [str(warning.message) for warning in caught]
    read = tokenized.offsets[0][tokenized.own[0]][:, 1].max()
    assert "1 of 2 texts are longer than max_length=60 tokens" in message
    share = re.search(r"and ([\d.]+) % of their characters are not read", message)
    assert float(share[1]) == pytest.approx(100 * (1 - read / len(text)), abs=0.06)
    limit = int(re.search(r"Set max_length=(\d+) to read more\.$", message)[1])
    with pytest.warns(TextTruncatedWarning) as caught:
        load_encoder(backbone, limit).tokenize([text])
    assert "The backbone reads no more" in str(caught[0].message)


def test_characters_that_a_tokenizer_drops_are_not_cut(tiny_bert):
    """The last token then ends before the text does."""
    encoder = load_encoder(tiny_bert, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.tokenize(["good food was good\x00\x00 \x01 "])
    with pytest.warns(TextTruncatedWarning, match="1 of 1 texts"):
        encoder.tokenize(["good food was good\x00\x00 a"])


def test_either_text_of_a_pair_that_is_cut_counts(tiny_bert):
    encoder = load_encoder(tiny_bert, 16)
    for pair in [("good " * 40, "food"), ("food", "good " * 40)]:
        with pytest.warns(TextTruncatedWarning, match="1 of 1 texts"):
            encoder.tokenize([pair])


# --- Words that the tokenizer does not know.


def test_unknown_words_are_warned_of_with_their_share(backbone, kind):
    """A text that differs from another in such a word alone was read as that one."""
    texts = ["the food was good 😀", "a bad film 😡", "the film", "good 漢 food"]
    encoder = load_encoder(backbone, None)
    if kind in BYTE_PAIRS:
        encoder.tokenize(texts)  # warnings are errors
        return
    with pytest.warns(UnreadTextWarning) as caught:
        tokenized = encoder.tokenize(texts)
    [message] = [str(warning.message) for warning in caught]
    n_tokens = sum(int(own.sum()) for own in tokenized.own)
    n_unread = sum(int(unread.sum()) for unread in tokenized.unread)
    assert re.match("[23] of 4 texts", message)  # the corpus has one of these faces
    assert "'漢'" in message
    assert f"{100 * n_unread / n_tokens:.1f} % of all tokens" in message
    assert "paraphrase-multilingual-MiniLM-L12-v2" in message


@pytest.mark.parametrize(
    ("text", "word"), [("good \ufffd\ufffd food", "\ufffd\ufffd"), ("\ue000 day", "")]
)
def test_words_that_give_no_token_are_warned_of(tiny_bert, text, word):
    """The tokenizer drops them, and nothing said so."""
    encoder = load_encoder(tiny_bert, None)
    with pytest.warns(UnreadTextWarning, match=f"1 of 2 texts .*{word}"):
        encoder.tokenize([text, "good"])


@pytest.mark.parametrize(
    "text", ["naïve café", "good \u200b\u200b food", "a \u0301 day", "a day \x97 good"]
)
def test_marks_and_controls_are_no_words(tiny_bert, text):
    """A dash of Windows-1252 in film reviews is a control character of Unicode."""
    encoder = load_encoder(tiny_bert, None)
    tokenized = encoder.tokenize([text])  # warnings are errors
    assert not tokenized.unread[0].any()


def test_a_long_run_of_invisible_characters_takes_no_time(tiny_bert):
    """A search that looked back from each of them would not end."""
    tokenized = load_encoder(tiny_bert, None).tokenize(["\u200b" * 300_000 + " good"])
    assert tokenized.lengths.tolist() == [3]


def test_a_typed_unknown_token_is_text(tiny_bert):
    encoder = load_encoder(tiny_bert, None)
    tokenized = encoder.tokenize(["good [UNK] food"])
    assert not tokenized.unread[0].any()


def test_what_would_garble_a_terminal_is_not_quoted(tiny_bert):
    encoder = load_encoder(tiny_bert, None)
    with pytest.warns(UnreadTextWarning) as caught:
        encoder.tokenize(["good \u202e漢 \u2066"])
    assert str(caught[0].message).isprintable()


TICKETS = [
    f"{greeting} {noun} {face}"
    for greeting in ("the food", "a day", "my card", "new plot", "one end")
    for noun in ("today", "service", "film")
    for face in ("漢", "字")
]
FACES = ["happy" if "漢" in ticket else "angry" for ticket in TICKETS]


def test_texts_that_differ_in_unknown_words_alone_cannot_be_learned(make_classifier):
    """Tickets that only an emoji told apart were fitted, and explained by it."""
    with (
        pytest.warns(UnreadTextWarning, match="30 of 30 texts"),
        pytest.raises(ValueError, match="reads the same to the encoder") as caught,
    ):
        make_classifier().fit(TICKETS, FACES)
    assert "row 1, 'the food today 字' (str), is 'angry'" in str(caught.value)
    assert "row 0, 'the food today 漢' (str), is 'happy'" in str(caught.value)
    assert "words that its tokenizer does not know" in str(caught.value)


def test_the_same_text_under_two_labels_is_called_the_same(make_classifier):
    with pytest.raises(ValueError, match=r"is 'b'\. Give such texts one label"):
        make_classifier().fit(["good food"] * 8, ["a", "b"] * 4)


@pytest.fixture(scope="module")
def clf(make_classifier) -> ProtoLMClassifier:
    X = [*TICKETS, *(f"bad {ticket}" for ticket in TICKETS)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_classifier().fit(X, ["good"] * 30 + ["bad"] * 30)


@pytest.mark.parametrize(
    "method",
    [
        "predict",
        "predict_proba",
        "decision_function",
        "transform",
        "explain",
        "novelty_score",
    ],
)
def test_every_method_warns(clf, method):
    with pytest.warns(UnreadTextWarning, match="1 of 2 texts .*'漢'.*: 25.0 % of all"):
        getattr(clf, method)(["my card 漢", "the"])


def test_explanations_know_what_is_not_read(clf):
    with pytest.warns(UnreadTextWarning):
        [e, plain] = clf.explain(["the 漢 food", "the food"])
    assert e.word_unread.tolist() == [False, True, False]
    assert e.token_unread.tolist() == [False, True, False]
    assert not plain.word_unread.any()
    quoted = e.prototypes[0]
    assert quoted.unread == tuple(w for w in quoted.text.split() if w in "漢字")
    assert clf.prototypes_[quoted.index].unread == quoted.unread
    assert clf.prototypes_.to_dict()[0]["unread"] == list(clf.prototypes_.unread[0])


@pytest.fixture(scope="module")
def unread(clf) -> Any:
    """The explanation of a text with a word that is not read."""
    with pytest.warns(UnreadTextWarning):
        [e] = clf.explain(["the 漢 food"])
    return e


def test_prints_mark_what_is_not_read(unread):
    assert 'not read by the tokenizer: "漢"' in unread.to_text()
    assert f'not read: "{unread.prototypes[0].unread[0]}"' in unread.to_text()
    assert '"漢" (not read) ' in unread.to_text()
    assert "\x1b[9m漢\x1b[0m" in unread.to_text(color=True)


def test_frames_and_lists_mark_what_is_not_read(clf, unread):
    first = unread.prototypes[0]
    assert f"(not read: {first.unread[0]})" in repr(clf.prototypes_)
    pytest.importorskip("pandas")
    assert unread.to_frame()["prototype_unread"][0] == first.unread


def test_prints_say_how_much_of_a_long_text_is_not_read(clf):
    with pytest.warns(TextTruncatedWarning):
        [e, pair] = [clf.explain(["good " * 400])[0], clf.explain(["food"])[0]]
    assert re.search(r"not read, since too long: 8\d\.\d % of the text", str(e))
    assert "too long" not in str(pair)


def test_pages_mark_what_is_not_read(clf, unread, tmp_path):
    quoted = unread.prototypes[0].unread[0]
    html = unread.to_html()
    assert re.search(r'skprotolm-unknown" title="not read[^"]*">漢</span>', html)
    assert f"(not read: {quoted})" in html
    assert (
        "skprotolm-pair skprotolm-unread skprotolm-unknown" in html
    )  # of an alignment
    assert f"(not read: {quoted})" in clf.prototypes_._repr_html_()
    path = tmp_path / "report.html"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf.report(TICKETS, ["good"] * 30, path)
    report = path.read_text(encoding="utf-8")
    assert f"(not read: {quoted})" in report
    assert "<dt>With words that the tokenizer cannot read</dt><dd>30</dd>" in report


def test_plots_mark_what_is_not_read(unread):
    pytest.importorskip("matplotlib")
    words, prototypes = unread.plot().axes
    [shares] = Explanations([unread, unread]).plot().axes
    written = [
        [label.get_text() for label in axes.get_yticklabels()]
        for axes in (words, prototypes, shares)
    ]
    assert sum("(not read)" in name for name in written[0]) == 1
    mark = f"(not read: {unread.prototypes[0].unread[0]})"
    assert mark in written[1][0]
    assert any(mark in name for name in written[2])


def test_shap_marks_what_is_not_read(unread):
    pytest.importorskip("shap")
    assert "漢 (not read)" in Explanations([unread]).to_shap().feature_names[0]


def test_proto_lm_marks_what_is_not_read_without_scores(make_classifier, tmp_path):
    X, y = [*TICKETS, *(f"bad {t}" for t in TICKETS)], ["good"] * 30 + ["bad"] * 30
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf = make_classifier(formulation="proto-lm").fit(X, y)
        [e] = clf.explain(["the 漢 food"])
    html = replace(e, token_scores=None, token_method=None).to_html()
    assert 'skprotolm-unknown" title="not read">漢</span>' in html


def test_a_redacted_text_leaves_no_unread_words(clf):
    edited = copy.deepcopy(clf)
    edited.redact_prototypes({j: "hidden" for j in range(len(clf.prototypes_))})
    assert set(edited.prototypes_.unread) == {()}


@pytest.mark.real
def test_the_default_encoder_says_that_it_cannot_read_chinese():
    encoder = load_encoder("sentence-transformers/all-MiniLM-L6-v2", None)
    with pytest.warns(UnreadTextWarning, match=r"1 of 1 texts .* [3-9]\d\.\d % of all"):
        encoder.tokenize(["这部电影非常好看, 演员很棒"])
    with pytest.warns(TextTruncatedWarning, match="max_length=512 to read more"):
        encoder.tokenize(["good " * 300])


# --- Distinct texts.


@pytest.mark.parametrize("twin", [str.upper, str.title, lambda text: f"  {text} "])
def test_texts_that_read_the_same_under_two_labels_are_no_prototypes(
    make_classifier, texts, twin
):
    """They were told apart as strings, and became prototypes that coincide."""
    X, y = texts
    other = "neg" if y[0] == "pos" else "pos"
    clf = make_classifier(n_prototypes=6).fit([*X, twin(X[0])], [*y, other])
    assert X[0] not in clf.prototypes_.texts
    assert twin(X[0]) not in clf.prototypes_.texts


def test_copies_to_the_encoder_are_one_prototype(make_classifier):
    X = ["good food", "GOOD food", "Good Food ", "a bad film", "the card was lost"]
    with pytest.warns(UserWarning, match=r"fewer distinct texts .*: 'yes' \(1\)"):
        clf = make_classifier(n_prototypes=2, max_epochs=1).fit(
            X, ["yes", "yes", "yes", "no", "no"]
        )
    assert clf.prototypes_.labels.tolist().count("yes") == 1


def test_a_text_that_reads_like_a_prototype_is_not_added(make_classifier, texts):
    clf = make_classifier().fit(*texts)
    text = clf.prototypes_[0].text
    with pytest.raises(ValueError, match="is the text of prototype 0 already"):
        clf.add_prototypes([text.upper()], [clf.classes_[0]])
    with pytest.raises(ValueError, match="is the text of prototype 6 already"):
        clf.add_prototypes(["a new one", "A NEW ONE"], [clf.classes_[0]] * 2)


def test_texts_that_are_cut_to_the_same_are_one(make_classifier):
    head = "the food was good and the service was kind today"
    X = [f"{head} {i}" for i in range(6)] + [f"bad {i} film" for i in range(6)]
    with (
        pytest.warns(TextTruncatedWarning),
        pytest.warns(UserWarning, match=r"1 \(1\)"),
    ):
        clf = make_classifier(max_length=8, n_prototypes=2).fit(X, [1] * 6 + [0] * 6)
    assert clf.prototypes_.labels.tolist() == [0, 0, 1]
