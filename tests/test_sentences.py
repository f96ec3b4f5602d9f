"""Sentences of texts, and their scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from skprotolm import ProtoLMClassifier
from skprotolm._records.sentences import find_sentences
from tests.texts import make_texts

SENTENCES = [
    ("It works. It does!  Why?", "It works.|It does!|Why?"),
    ("a film . it works .", "a film .|it works ."),
    (". . . routine , harmless .", ". . . routine , harmless ."),
    ("good . . . bad ? !", "good . . .|bad ? !"),
    ("Well... yes… no", "Well...|yes…|no"),
    ('He said "No." Then (he left.) So', 'He said "No."|Then (he left.)|So'),
    (
        "Mr. J. R. Smith vs. Dr. Who, e.g. here",
        "Mr. J. R. Smith vs. Dr. Who, e.g. here",
    ),
    ("In the U.S. it did, etc. (i.e. so.) So did I. Yes", 3),
    ("It fits. Sunset at St. Ives", "It fits.|Sunset at St. Ives"),
    ("It costs 3.5 at a.com. Yes", "It costs 3.5 at a.com.|Yes"),
    ("1. Good. 2. Bad. 10/10.", "1. Good.|2. Bad. 10/10."),
    ("a title\n\nthe text\nof it", "a title|the text\nof it"),
    ("a title\n \n\nthe text", "a title|the text"),
    ("好。坏！「好？」坏", "好。|坏！|「好？」|坏"),
    ("अच्छा है। बुरा है।", "अच्छा है।|बुरा है।"),
    ("  good  ", "good"),
    ("...", "..."),
    (" \n\n ", []),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), SENTENCES, ids=lambda x: ascii(x)[:40])
def test_sentences_end_at_their_marks(text, expected):
    sentences = [text[start:end] for start, end in find_sentences(text)]
    if isinstance(expected, int):
        assert len(sentences) == expected
    else:
        assert sentences == (expected.split("|") if expected else expected)
    assert "".join("".join(sentences).split()) == "".join(text.split())


def test_a_long_text_is_split_quickly():
    assert len(find_sentences("no mark here " * 50_000)) == 1
    assert len(find_sentences(". " * 50_000)) == 1
    assert len(find_sentences("1. " * 50_000)) == 1
    assert len(find_sentences("a . " * 50_000)) == 50_000


# --- Sentences of explanations.

TEXTS: list[Any] = [
    "The food was good. The film was bad! The end",
    "good",
    "",
    " ",
    ("good. bad", "The film. The end."),
    ("", "good food."),
]


@pytest.fixture(scope="module")
def paired(make_classifier) -> ProtoLMClassifier:
    X, y = make_texts()
    return make_classifier().fit([(text, "so it was") for text in X], y)


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.UnreadTextWarning")
@pytest.mark.parametrize("text", TEXTS, ids=str)
def test_sentence_scores_are_sums_of_word_scores(fitted, paired, text):
    clf = fitted if isinstance(text, str) else paired
    [e] = clf.explain([text])
    assert len(e.sentences) == len(e.sentence_offsets) == len(e.sentence_scores)
    assert e.sentence_ids.shape == (len(e.words),)
    for i, score in enumerate(e.sentence_scores):
        assert score == pytest.approx(e.word_scores[e.sentence_ids == i].sum())
    assert e.sentence_scores.sum() == pytest.approx(e.token_scores.sum())


def test_sentences_contain_their_words(fitted):
    [e] = fitted.explain([TEXTS[0]])
    assert e.sentences == ("The food was good.", "The film was bad!", "The end")
    assert e.sentence_ids.tolist() == [0] * 5 + [1] * 5 + [2] * 2
    plain = e.to_dict()
    assert plain["sentences"] == list(e.sentences)
    assert plain["sentence_scores"] == e.sentence_scores.tolist()


def test_sentences_never_span_the_texts_of_a_pair(paired):
    [e] = paired.explain([("good. the film", "of a day. bad")])
    assert e.sentences == ("good.", "the film", "of a day.", "bad")
    assert e.sentence_offsets[:, 0].tolist() == [0, 0, 1, 1]
    assert e.sentence_ids.tolist() == [0, 0, 1, 1, 2, 2, 2, 2, 3]


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
def test_sentences_that_are_not_read_have_no_score(fitted):
    [e] = fitted.explain(["food . " * 100])
    assert len(e.sentences) == 100
    assert e.sentence_scores[0] != 0
    assert e.sentence_scores[-1] == 0


def test_explanations_without_token_scores_have_no_sentence_scores(fitted):
    [e] = fitted.explain([TEXTS[0]])
    assert replace(e, token_scores=None).sentence_scores is None
    assert len(replace(e, token_scores=None).sentences) == 3


def test_long_runs_of_marks_take_no_quadratic_time():
    """20,000 exclamation marks before a letter took half a minute."""
    text = "wow" + "!" * 50_000 + "x"
    assert find_sentences(text) == [(0, len(text))]
