"""Explanations and prototypes: their fields, views, copies and pickles."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from skprotolm import Explanation, Explanations, ProtoLMClassifier
from tests.texts import make_texts
from tests.tiny import make_encoder

# A tiny random encoder gives many texts nearly the same vector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::skprotolm.exceptions.UnreadTextWarning"
)


@pytest.fixture(scope="module")
def explained(tmp_path_factory) -> Callable[..., Explanations]:
    """Return a function that explains texts with a tiny encoder of some kind."""

    @cache
    def fit(kind: str, pairs: bool, formulation: str) -> ProtoLMClassifier:
        X, y = make_texts()
        clf = ProtoLMClassifier(
            make_encoder(kind, tmp_path_factory.mktemp(kind)),
            n_prototypes=2,
            formulation=formulation,
            max_epochs=1,
            random_state=0,
        )
        return clf.fit([(text, "so it was") for text in X] if pairs else X, y)

    def explain(
        kind: str, X: list[Any], formulation: str = "mixture", **options: Any
    ) -> Explanations:
        clf = fit(kind, isinstance(X[0], tuple), formulation)
        return clf.explain(X, **options)

    return explain


@pytest.fixture
def explanation(fitted) -> Explanation:
    [e] = fitted.explain(["the food was good today, and kind!"])
    return dataclasses.replace(e, novelty_limit=None)


# --- Words.

WORDS = [
    ("the food was good", ["the", "food", "was", "good"]),
    ("the lovely, honest day!", ["the", "lovely", ",", "honest", "day", "!"]),
    ("it's  a\tday\nat -3.75", ["it's", "a", "day", "at", "-", "3.75"]),
    ("😀😀 good 👩‍👩‍👧 day", ["😀😀", "good", "👩‍👩‍👧", "day"]),
    ("食べ物 good", ["食", "べ", "物", "good"]),
    ("한국어 좋다", ["한국어", "좋다"]),
    ("שלום good عالم", ["שלום", "good", "عالم"]),
    ("naïve cafe\u0301 ﬁne", ["naïve", "cafe\u0301", "ﬁne"]),
    ("[SEP] the [CLS] <s>", ["[", "SEP", "]", "the", "[", "CLS", "]", "<", "s", ">"]),
    (
        "<|endoftext|> [PAD] [UNK]",
        ["<|", "endoftext", "|>", "[", "PAD", "]", "[", "UNK", "]"],
    ),
]


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
@pytest.mark.parametrize(("text", "words"), WORDS, ids=[text for text, _ in WORDS])
def test_words_are_those_of_the_text(explained, kind, text, words):
    [e] = explained(kind, [text])
    assert e.words == tuple(words)
    assert e.word_scores.shape == (len(words),)
    assert e.word_scores.sum() == pytest.approx(e.token_scores.sum())


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_word_s_score_is_the_sum_of_its_tokens(explained, kind):
    text = "a lovely, honest day"
    [e] = explained(kind, [text])
    assert len(e.tokens) > len(e.words), "the test needs a word of several tokens"
    starts = [match.start() for match in re.finditer(r"\w+|,", text)]
    letters = [re.compile(r"\S").search(text, start).start() for start, _ in e.offsets]
    word_ids = np.searchsorted(starts, letters, side="right") - 1
    for number, score in enumerate(e.word_scores):
        assert score == pytest.approx(e.token_scores[word_ids == number].sum())


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("text", ["good です", "ですか", *[text for text, _ in WORDS]])
def test_words_contain_all_characters(explained, kind, text):
    """A token over two kana, which are two words, lost the second."""
    [e] = explained(kind, [text])
    assert "".join(e.words) == "".join(text.split())


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [("bert", ("[CLS]", "[SEP]")), ("llama", ("<s>",)), ("gpt2", ("<|endoftext|>",))],
)
def test_an_empty_text_is_explained_by_its_special_tokens(explained, kind, tokens):
    [e] = explained(kind, [""])
    assert e.tokens == e.words == tokens
    assert e.word_scores.sum() == pytest.approx(e.log_odds - e.base_value)
    assert e._repr_html_()
    assert str(e)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("text", [" ", "\n\n", "\t \u3000"])
def test_a_text_of_spaces_has_scores(explained, kind, text):
    [e] = explained(kind, [text])
    assert len(e.words) == len(e.word_scores) > 0
    assert e.word_scores.sum() == pytest.approx(e.token_scores.sum())


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
def test_words_of_pairs_are_separate(explained, kind):
    pairs = [("the food, good", "good day"), ("", "good food"), ("good", "")]
    explanations = explained(kind, pairs)
    assert [e.words for e in explanations] == [
        ("the", "food", ",", "good", "good", "day"),
        ("good", "food"),
        ("good",),
    ]
    for e in explanations:
        assert e.word_scores.sum() == pytest.approx(e.token_scores.sum())


# --- Tokens.


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
@pytest.mark.parametrize("text", [text for text, _ in WORDS])
def test_tokens_are_slices_of_the_text(explained, kind, text):
    [e] = explained(kind, [text])
    assert len(e.tokens) == len(e.offsets) > 0
    for token, (start, end) in zip(e.tokens, e.offsets, strict=True):
        assert token == text[start:end] != ""
    covered = {i for start, end in e.offsets for i in range(start, end)}
    letters = {i for i, letter in enumerate(text) if letter.isalnum()}
    assert letters <= covered


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
def test_tokens_of_pairs_are_slices_of_their_text(explained, kind):
    pair = ("the food was good", "a lovely, honest day")
    [e] = explained(kind, [pair])
    assert e.text == pair
    assert set(e.segments) == {0, 1}
    for token, segment, (start, end) in zip(
        e.tokens, e.segments, e.offsets, strict=True
    ):
        assert token == pair[segment][start:end] != ""


def test_truncated_text_is_not_explained(explained):
    text = "good food " * 50
    with pytest.warns(UserWarning, match="1 of 1 texts are longer"):
        [e] = explained("bert", [text])
    assert len(e.words) == 62  # and [CLS] and [SEP]
    assert e.text == text


# --- Prototypes of an explanation.


def test_prototypes_are_sorted_by_contribution(fitted, explanation):
    contributions = [p.contribution for p in explanation.prototypes]
    assert contributions == sorted(explanation.contributions.tolist(), reverse=True)
    assert explanation.remainder == 0
    for p in explanation.prototypes:
        one = fitted.prototypes_[p.index]
        assert (p.text, p.label) == (one.text, one.label)
        assert p.contribution == explanation.contributions[p.index]
        assert p.similarity == explanation.similarities[p.index]


@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
@pytest.mark.parametrize("top_k", [1, 3, 4, np.int64(2), 100])
def test_top_k_limits_the_list_and_sets_the_remainder(explained, formulation, top_k):
    X = make_texts(4, seed=5)[0]
    everything = explained("bert", X, formulation)
    for short, full in zip(
        explained("bert", X, formulation, top_k=top_k), everything, strict=True
    ):
        assert short.prototypes == full.prototypes[:top_k]
        remainder = sum(p.contribution for p in full.prototypes[top_k:])
        assert short.remainder == pytest.approx(remainder)
        np.testing.assert_array_equal(short.contributions, full.contributions)


@pytest.mark.parametrize("top_k", [0, -1, 1.5, "2", True])
def test_an_invalid_top_k_is_rejected(fitted, top_k):
    with pytest.raises(ValueError, match=r"top_k must be a positive int"):
        fitted.explain(["good"], top_k=top_k)


def test_a_prototype_is_the_best_match_of_its_text(fitted):
    for p in fitted.prototypes_:
        [e] = fitted.explain([p.text])
        assert e.similarities.argmax() == p.index
        assert e.similarities[p.index] == pytest.approx(1, abs=1e-5)
        assert e.similarities.max() <= 1 + 1e-5


def test_indices_of_alignments_are_those_of_prototypes(fitted, explanation):
    last = len(fitted.prototypes_) - 1
    T = len(explanation.tokens)
    U = len(fitted.explain([fitted.prototypes_[last].text])[0].tokens)
    assert explanation.alignment(last).shape == (T, U)


# --- Targets.


def test_any_class_can_be_explained(fitted):
    X = make_texts(4)[0]
    for target in ("neg", "pos", np.str_("pos"), np.array("neg")):
        for e in fitted.explain(X, target=target):
            assert e.target == str(target)
            assert e.probability == e.probabilities[str(target)]
            assert f"{target}:" in str(e)
    labels = ["neg", "pos", "pos", "neg"]
    for targets in (labels, np.array(labels), pd.Series(labels, index=list("abcd"))):
        assert [e.target for e in fitted.explain(X, target=targets)] == labels
    assert [e.prediction for e in fitted.explain(X, target="neg")] == list(
        fitted.predict(X)
    )


@pytest.mark.parametrize(
    ("target", "message"),
    [("good", "'good'"), (0, "0"), (["pos"], r"\(2\), got 1"), (["pos", "no"], "'no'")],
)
def test_an_unknown_target_is_rejected(fitted, target, message):
    with pytest.raises(ValueError, match=f"target must .*{message}"):
        fitted.explain(["good", "bad"], target=target)


# --- Sequences of explanations.


def test_explanations_are_a_sequence(fitted):
    X = make_texts(8)[0]
    explanations = fitted.explain(X)
    assert isinstance(explanations, Explanations)
    assert len(explanations) == 8
    assert [e.text for e in explanations] == X
    assert explanations[-1] is explanations[7]
    assert isinstance(explanations[2:4], Explanations)
    assert [e.text for e in explanations[2:4]] == X[2:4]
    assert [e.text for e in explanations[::-3]] == X[::-3]
    assert explanations[3] in explanations
    with pytest.raises(IndexError):
        explanations[8]


def test_explanations_are_immutable(explanation):
    with pytest.raises(dataclasses.FrozenInstanceError):
        explanation.target = "neg"
    explanation.probabilities["pos"] = 2.0
    assert explanation.probabilities["pos"] < 1


def test_a_refit_does_not_change_explanations(make_classifier, texts):
    X, y = texts
    clf = make_classifier().fit(X, y)
    [e] = clf.explain(X[:1])
    before = (e.to_dict(), e.token_similarities, e.alignment(0))
    clf.set_params(random_state=1).fit(X[:20], y[:20])
    assert e.to_dict() == before[0]
    np.testing.assert_array_equal(e.token_similarities, before[1])
    np.testing.assert_array_equal(e.alignment(0), before[2])


# --- Dicts and frames.

KEYS = {
    "kind",
    "text", "prediction", "target", "against", "labels", "probabilities", "space",
    "base_value", "log_odds", "score", "novelty", "novelty_limit", "nearest_similarity",
    "is_unlike", "prototypes", "remainder", "tokens", "offsets", "segments",
    "attention", "token_scores", "token_method", "token_unread", "words",
    "word_offsets", "word_scores", "word_unread", "read_fraction", "sentences",
    "sentence_offsets", "sentence_ids", "sentence_scores", "alignments",
}  # fmt: skip


@pytest.mark.parametrize(
    "labels", [["no", "yes"], [0, 1], [False, True], [1.0, 2.0]], ids=str
)
@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_dicts_are_json_serializable(make_classifier, texts, labels, formulation):
    X, y = texts
    y = np.array(labels)[(y == "pos").astype(int)]
    clf = make_classifier(max_epochs=1, n_prototypes=1, formulation=formulation)
    explanations = clf.fit(X, y).explain([*X[:2], "", "😀 naïve"], target=labels[1])
    dicts = explanations.to_dict()
    assert json.loads(json.dumps(dicts, allow_nan=False)) == dicts
    for plain, e in zip(dicts, explanations, strict=True):
        assert plain.keys() == KEYS
        assert plain["labels"] == labels
        assert plain["target"] is labels[1] or plain["target"] == labels[1]
        assert type(plain["target"]) is type(labels[1])
        assert plain["probabilities"] == list(e.probabilities.values())
        assert plain["words"] == list(e.words)
        assert plain == e.to_dict()
        index = plain["prototypes"][0]["index"]
        assert plain["prototypes"][0]["text"] == clf.prototypes_[index].text


def test_dicts_of_pairs_are_json_serializable(explained):
    [plain] = explained("bert", [("good food", "a day")]).to_dict()
    restored = json.loads(json.dumps(plain))
    assert restored["text"] == ["good food", "a day"]
    assert restored["segments"] == [0, 0, 1, 1]
    assert restored["prototypes"][0]["text"][1] == "so it was"


def test_a_frame_has_one_row_per_text_and_prototype(fitted):
    X = make_texts(4)[0][:3]
    explanations = fitted.explain(X, top_k=2)
    frame = explanations.to_frame()
    assert list(frame.columns) == [
        "row", "text", "prediction", "target", "against", "probability", "is_unlike",
        "prototype", "prototype_name", "prototype_label", "prototype_text",
        "prototype_unread", "of_target", "similarity", "contribution",
    ]  # fmt: skip
    assert (frame["of_target"] == (frame["prototype_label"] == frame["target"])).all()
    names = [fitted.prototypes_[j].name for j in frame["prototype"]]
    assert frame["prototype_name"].tolist() == names
    assert frame["row"].tolist() == [0, 0, 1, 1, 2, 2]
    assert frame["text"].tolist() == [text for text in X for _ in range(2)]
    expected = [p.contribution for e in explanations for p in e.prototypes]
    assert frame["contribution"].tolist() == expected
    assert explanations[1].to_frame()["text"].tolist() == [X[1]] * 2


# --- Text output.


def printed_shares(output: str) -> tuple[list[float], float]:
    """Return the printed shares of the target's prototypes, and their printed sum."""
    percents = re.findall(r"^ +(= |< )?([\d.]+) %  ", output, flags=re.MULTILINE)
    end = [sign for sign, _ in percents].index("= ")
    return [float(number) for _, number in percents[:end]], float(percents[end][1])


@pytest.mark.parametrize("top_k", [None, 1, 2, 5])
@pytest.mark.parametrize("target", ["pos", "neg"])
def test_printed_shares_sum_to_the_probability(fitted, top_k, target):
    """The sum included prototypes without a line."""
    for e in fitted.explain(make_texts(6)[0], top_k=top_k, target=target):
        listed, total = printed_shares(str(e))
        assert len(listed) == min(top_k or 3, 3) + (top_k in (1, 2))
        assert sum(listed) == pytest.approx(total, abs=0.06 * len(listed))
        assert total == pytest.approx(100 * e.probability, abs=0.06)


def test_an_explanation_prints_prototypes_of_the_target_and_of_others(explanation):
    explanation = dataclasses.replace(explanation, novelty_limit=None)
    output = str(explanation)
    assert explanation.text in output
    assert f"{explanation.target}: {100 * explanation.probability:.1f} %" in output
    of_target = [p for p in explanation.prototypes if p.label == explanation.target]
    for p in of_target:
        assert f'because it reads like the {p.label} text "{p.text}"' in output
    other = next(p for p in explanation.prototypes if p.label != explanation.target)
    assert f'although it reads like the {other.label} text "{other.text}"' in output
    assert "2 more texts of other classes" in output
    assert f"{explanation.log_odds:+.2f}" in output
    strongest = int(np.argmax(np.abs(explanation.word_scores)))
    score = explanation.word_scores[strongest]
    assert f'words (relevance): "{explanation.words[strongest]}" {score:+.2f}' in output


def test_text_of_another_target_names_the_prediction(fitted):
    for e in fitted.explain(make_texts(4)[0], target="neg"):
        assert ("(predicted: pos)" in str(e)) == (e.prediction == "pos")


def test_an_explanation_of_a_score_prints_its_sum(explained):
    [e] = explained("bert", ["the food was good"], "proto-lm")
    output = str(e)
    assert f"{e.score:+.3f}  score of {e.target}" in output
    assert f"{e.base_value:+.3f}  bias of the class" in output


@pytest.mark.parametrize("top_k", [None, 1, 4])
def test_printed_contributions_sum_to_the_score(explained, top_k):
    [e] = explained("bert", ["the food was good"], "proto-lm", top_k=top_k)
    lines = re.findall(r"^ +(=? ?)([+-][\d.]+)  ", str(e), flags=re.MULTILINE)
    *contributions, total = [float(number) for _, number in lines]
    assert [sign.strip() for sign, _ in lines] == [""] * len(contributions) + ["="]
    assert sum(contributions) == pytest.approx(total, abs=1e-3 * len(lines))
    assert total == pytest.approx(e.score, abs=1e-3)


def test_colors_are_optional(explanation):
    assert "\x1b[" not in str(explanation)
    colored = explanation.to_text(color=True)
    assert "\x1b[" in colored
    plain = re.sub(r"\x1b\[[\d;]*m", "", colored)
    assert plain == explanation.to_text()


def test_reprs_are_short(fitted):
    explanations = fitted.explain(["the food was good " * 3, "bad"])
    assert repr(explanations) == "<Explanations of 2 texts>"
    output = repr(explanations[0])
    assert output.startswith("<Explanation of 'the food was good")
    assert len(output) < 80
    assert "%" in output


def test_print_shows_the_first_explanations(fitted):
    explanations = fitted.explain([f"good day {i}" for i in range(8)])
    output = str(explanations)
    assert "good day 4" in output
    assert "good day 5" not in output
    assert output.endswith("… and 3 more explanations")
    assert str(explanations[:2]).count("because") == 6


def test_a_notebook_shows_the_first_explanations_and_counts_the_others(fitted):
    """The number of hidden explanations was missing."""
    explanations = fitted.explain([f"good day {i}" for i in range(60)])
    output = explanations._repr_html_()
    assert output.count("<article") == 50
    assert "10 more" in output
    assert explanations.to_html().count("<article") == 60


# --- Pickles and copies.


def test_pickled_explanations_have_the_same_views(fitted):
    explanations = fitted.explain(make_texts(4)[0], top_k=2)
    stored = pickle.dumps(explanations)
    assert len(stored) < 30_000  # without the model
    restored = pickle.loads(stored)
    assert restored.to_dict() == explanations.to_dict()
    assert str(restored) == str(explanations)
    # Alignments need the model.
    assert restored.to_html() == explanations.to_html(n_alignments=0)
    for split in (
        lambda: restored[0].alignment(0),
        lambda: restored[0].token_similarities,
    ):
        with pytest.raises(ValueError, match="stored without its model"):
            split()


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_copies_of_explanations_keep_the_model(explanation, make):
    """Copies used the pickled state, which has no model."""
    np.testing.assert_array_equal(
        make(explanation).alignment(0), explanation.alignment(0)
    )


# --- Alignments.


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_word_alignments_are_sums_of_token_alignments(explained, kind):
    [e] = explained(kind, ["a lovely, honest film today"])
    for p in e.prototypes:
        pairs = e.alignment(p.index)
        alignment = e.word_alignment(p.index)
        matrix, words = alignment.matrix, alignment.words
        assert matrix.shape == (len(e.words), len(words))
        assert words == tuple(p.text[a:b] for _, a, b in alignment.offsets)
        assert "".join(words) == "".join(p.text.split())
        assert matrix.sum() == pytest.approx(p.similarity, abs=1e-4)
        np.testing.assert_allclose(
            matrix.sum(axis=1), np.bincount(e.word_ids, pairs.sum(axis=1))
        )


def test_a_numpy_top_k_is_written_to_json(fitted):
    explanations = fitted.explain(["good food"], top_k=np.int64(2))
    assert Explanations.from_json(explanations.to_json())[0].top_k == 2
