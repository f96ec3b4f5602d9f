"""Words that the tokenizer cannot read are reported, and marked in explanations."""

from __future__ import annotations

import copy
import re
import warnings
from dataclasses import replace
from typing import Any

import pytest

from skprotolm import Explanations, ProtoLMClassifier
from skprotolm._network.encoder import load_encoder
from skprotolm.exceptions import TextTruncatedWarning, UnreadTextWarning

EMOJIS = ["the food was good 😀", "a bad film 😡", "the film", "good 漢 food"]


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "mpnet"], scope="module")
def test_the_warning_about_unknown_words_names_their_share(backbone):
    """Texts that differ only in unknown words were treated as equal."""
    encoder = load_encoder(backbone, None)
    with pytest.warns(UnreadTextWarning) as warned:
        tokenized = encoder.tokenize(EMOJIS)
    [message] = [str(warning.message) for warning in warned]
    n_tokens = sum(int(tokens.content_mask.sum()) for tokens in tokenized)
    n_unread = sum(int(tokens.unread.sum()) for tokens in tokenized)
    # One of the two emojis is in the vocabulary.
    assert re.match("[23] of 4 texts", message)
    assert "'漢'" in message
    assert f"{100 * n_unread / n_tokens:.1f} % of all tokens" in message
    assert "paraphrase-multilingual-MiniLM-L12-v2" in message


@pytest.mark.parametrize(
    "model_type", ["roberta", "modernbert", "gpt2", "llama"], scope="module"
)
def test_byte_pair_tokenizers_read_every_word(backbone):
    tokenized = load_encoder(backbone, None).tokenize(EMOJIS)  # warnings are errors
    assert not any(tokens.unread.any() for tokens in tokenized)


@pytest.mark.parametrize(
    ("text", "word"), [("good \ufffd\ufffd food", "\ufffd\ufffd"), ("\ue000 day", "")]
)
def test_words_without_a_token_are_reported(tiny_bert, text, word):
    """The tokenizer drops them without a warning."""
    encoder = load_encoder(tiny_bert, None)
    with pytest.warns(UnreadTextWarning, match=f"1 of 2 texts .*{word}"):
        encoder.tokenize([text, "good"])


@pytest.mark.parametrize(
    "text", ["naïve café", "good \u200b\u200b food", "a \u0301 day", "a day \x97 good"]
)
def test_marks_and_control_characters_are_ignored(tiny_bert, text):
    """In Unicode, the dash of Windows-1252 is a control character."""
    encoder = load_encoder(tiny_bert, None)
    [tokens] = encoder.tokenize([text])  # warnings are errors
    assert not tokens.unread.any()


def test_many_invisible_characters_are_processed_in_linear_time(tiny_bert):
    """A regular expression with backtracking takes quadratic time."""
    tokenized = load_encoder(tiny_bert, None).tokenize(["\u200b" * 300_000 + " good"])
    assert tokenized.lengths.tolist() == [3]


def test_a_typed_unknown_token_is_text(tiny_bert):
    encoder = load_encoder(tiny_bert, None)
    [tokens] = encoder.tokenize(["good [UNK] food"])
    assert not tokens.unread.any()


def test_warnings_contain_printable_characters_only(tiny_bert):
    encoder = load_encoder(tiny_bert, None)
    with pytest.warns(UnreadTextWarning) as warned:
        encoder.tokenize(["good \u202e漢 \u2066"])
    assert str(warned[0].message).isprintable()


TICKETS = [
    f"{greeting} {noun} {face}"
    for greeting in ("the food", "a day", "my card", "new plot", "one end")
    for noun in ("today", "service", "film")
    for face in ("漢", "字")
]
FACES = ["happy" if "漢" in ticket else "angry" for ticket in TICKETS]


def test_fit_fails_if_classes_differ_only_in_unknown_words(make_classifier):
    """Texts that differ only in an emoji were fitted, and explained by it."""
    with (
        pytest.warns(UnreadTextWarning, match="30 of 30 texts"),
        pytest.raises(ValueError, match="reads the same to the encoder") as info,
    ):
        make_classifier().fit(TICKETS, FACES)
    assert "row 1, 'the food today 字' (str), is 'angry'" in str(info.value)
    assert "row 0, 'the food today 漢' (str), is 'happy'" in str(info.value)
    assert "words that its tokenizer does not know" in str(info.value)


def test_fit_fails_if_classes_have_the_same_texts(make_classifier):
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
def test_every_method_warns_about_unknown_words(clf, method):
    with pytest.warns(UnreadTextWarning, match="1 of 2 texts .*'漢'.*: 25.0 % of all"):
        getattr(clf, method)(["my card 漢", "the"])


def test_explanations_mark_unknown_words(clf):
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
    """The explanation of a text with an unknown word."""
    with pytest.warns(UnreadTextWarning):
        [e] = clf.explain(["the 漢 food"])
    return e


def test_prints_mark_unknown_words(clf, unread):
    assert 'not read by the tokenizer: "漢"' in unread.to_text()
    assert f'not read: "{unread.prototypes[0].unread[0]}"' in unread.to_text()
    assert "\x1b[9m漢\x1b[0m" in unread.to_text(color=True)
    with pytest.warns(UnreadTextWarning):  # a method that gives it a score
        [e] = clf.explain(["the 漢 food"], token_method="decomposition")
    assert '"漢" (not read) ' in e.to_text()


def test_frames_and_lists_mark_unknown_words(clf, unread):
    first = unread.prototypes[0]
    assert f"(not read: {first.unread[0]})" in repr(clf.prototypes_)
    pytest.importorskip("pandas")
    assert unread.to_frame()["prototype_unread"][0] == first.unread


def test_prints_contain_the_truncated_share(clf):
    with pytest.warns(TextTruncatedWarning):
        truncated, short = clf.explain(["good " * 400, "food"])
    assert re.search(r"not read, since too long: 8\d\.\d % of the text", str(truncated))
    assert "too long" not in str(short)


def test_explanations_have_the_fraction_that_is_read(clf):
    with pytest.warns(TextTruncatedWarning):
        explanations = clf.explain(["good " * 400, "food"])
    truncated, short = explanations
    last = truncated.word_offsets[-1, 2]
    assert truncated.read_fraction == pytest.approx(last / len(truncated.text))
    assert truncated.to_dict()["read_fraction"] == truncated.read_fraction
    assert short.read_fraction == 1


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.UnreadTextWarning")
@pytest.mark.parametrize("text", ["", " \n", "food, ", "  (food)  "])
def test_spaces_and_punctuation_are_not_cut_off(clf, text):
    assert clf.explain([text])[0].read_fraction == 1


def test_html_marks_unknown_words(clf, unread, tmp_path):
    quoted = unread.prototypes[0].unread[0]
    html = unread.to_html()
    assert re.search(r'skprotolm-unknown"[^>]* title="not read[^"]*">漢</span>', html)
    assert f"(not read: {quoted})" in html
    # In a quoted text.
    assert '<span class="skprotolm-unread skprotolm-unknown"' in html
    assert f"(not read: {quoted})" in clf.prototypes_._repr_html_()
    path = tmp_path / "report.html"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf.report(TICKETS, ["good"] * 30, path)
    report = path.read_text(encoding="utf-8")
    assert f"(not read: {quoted})" in report
    assert "<dt>With words that the tokenizer cannot read</dt><dd>30</dd>" in report


def test_plots_mark_unknown_words(unread):
    pytest.importorskip("matplotlib")
    words, prototypes = unread.plot().axes
    [shares] = Explanations([unread, unread]).plot().axes
    labels = [
        [label.get_text() for label in axes.get_yticklabels()]
        for axes in (words, prototypes, shares)
    ]
    assert sum("(not read)" in name for name in labels[0]) == 1
    quoted = unread.prototypes[0].unread[0]
    mark = re.compile(rf"\(not read: ({quoted}|\ufffd)\)")  # fonts may lack it
    assert mark.search(labels[1][0])
    assert any(map(mark.search, labels[2]))


def test_shap_marks_unknown_words(unread):
    pytest.importorskip("shap")
    assert "漢 (not read)" in Explanations([unread]).to_shap().feature_names[0]


def test_html_marks_unknown_words_without_token_scores(make_classifier, tmp_path):
    X, y = [*TICKETS, *(f"bad {t}" for t in TICKETS)], ["good"] * 30 + ["bad"] * 30
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf = make_classifier(formulation="proto-lm").fit(X, y)
        [e] = clf.explain(["the 漢 food"])
    html = replace(e, token_scores=None, token_method=None).to_html()
    assert 'skprotolm-unknown" title="not read">漢</span>' in html


def test_redacted_texts_have_no_unknown_words(clf):
    edited = copy.deepcopy(clf)
    edited.redact_prototypes({j: "hidden" for j in range(len(clf.prototypes_))})
    assert set(edited.prototypes_.unread) == {()}


@pytest.mark.real
def test_the_default_backbone_warns_about_chinese():
    encoder = load_encoder("sentence-transformers/all-MiniLM-L6-v2", None)
    with pytest.warns(UnreadTextWarning, match=r"1 of 1 texts .* [3-9]\d\.\d % of all"):
        encoder.tokenize(["这部电影非常好看, 演员很棒"])
    with pytest.warns(TextTruncatedWarning, match="max_length=512 to read more"):
        encoder.tokenize(["good " * 300])


# --- Distinct texts.


@pytest.mark.parametrize("variant", [str.upper, str.title, lambda text: f"  {text} "])
def test_texts_with_equal_tokens_and_two_labels_are_not_prototypes(
    make_classifier, texts, variant
):
    """Texts were compared as strings, and became identical prototypes."""
    X, y = texts
    other_label = "neg" if y[0] == "pos" else "pos"
    clf = make_classifier(n_prototypes=6).fit([*X, variant(X[0])], [*y, other_label])
    assert X[0] not in clf.prototypes_.texts
    assert variant(X[0]) not in clf.prototypes_.texts


def test_texts_with_equal_tokens_are_one_prototype(make_classifier):
    X = ["good food", "GOOD food", "Good Food ", "a bad film", "the card was lost"]
    with pytest.warns(UserWarning, match=r"fewer distinct texts .*: 'yes' \(1\)"):
        clf = make_classifier(n_prototypes=2, max_epochs=1).fit(
            X, ["yes", "yes", "yes", "no", "no"]
        )
    assert clf.prototypes_.labels.tolist().count("yes") == 1


def test_a_text_with_the_tokens_of_a_prototype_is_not_added(make_classifier, texts):
    clf = make_classifier().fit(*texts)
    text = clf.prototypes_[0].text
    with pytest.raises(ValueError, match="is the text of prototype 0 already"):
        clf.add_prototypes([text.upper()], [clf.classes_[0]])
    with pytest.raises(ValueError, match="Rows 0 and 1 of texts are the same text"):
        clf.add_prototypes(["a new one", "A NEW ONE"], [clf.classes_[0]] * 2)


def test_texts_with_equal_tokens_after_truncation_are_one_prototype(make_classifier):
    head = "the food was good and the service was kind today"
    X = [f"{head} {i}" for i in range(6)] + [f"bad {i} film" for i in range(6)]
    with (
        pytest.warns(TextTruncatedWarning),
        pytest.warns(UserWarning, match=r"1 \(1\)"),
    ):
        clf = make_classifier(max_length=8, n_prototypes=2).fit(X, [1] * 6 + [0] * 6)
    assert clf.prototypes_.labels.tolist() == [0, 0, 1]


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.UnreadTextWarning")
@pytest.mark.parametrize("extra", ["\u200b", " \u200b", "\x00", "\ufffd \u202e"])
def test_characters_without_tokens_are_not_said_to_be_too_long(fitted, extra):
    """A zero-width space at the end was "not read, since too long: 18.2 %"."""
    for text in (f"good food{extra}", f"{extra}good food"):
        [e] = fitted.explain([text])
        assert e.read_fraction == 1
        assert "too long" not in str(e)
