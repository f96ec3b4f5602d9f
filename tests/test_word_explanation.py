"""Explanations of the tags of words."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest

from skprotolm import Explanations, MarkedWord, WordExplanation
from skprotolm._display.formatting import shorten
from tests.tagged import NEW, X


def test_words_of_entities_are_explained_by_default(tagger):
    explanations = tagger.explain(NEW)
    assert isinstance(explanations, Explanations)
    assert all(isinstance(e, WordExplanation) for e in explanations)
    where = [(e.sentence, e.position, e.word) for e in explanations]
    assert where[:3] == [(0, 1, "kind"), (0, 4, "new"), (0, 5, "rome")]
    assert len(tagger.explain([["was"], []])) == 0
    assert [e.position for e in tagger.explain(NEW, words=[[5, 0], [], []])] == [5, 0]


def test_a_marked_word_is_a_sentence_and_its_position(tagger):
    text = tagger.prototypes_[0].text
    assert isinstance(text, MarkedWord)
    assert text == MarkedWord(str(text), text.position)
    assert text != str(text)
    assert pickle.loads(pickle.dumps(text)) == text == copy.deepcopy(text)
    assert text.words[text.position] == text.word == text[slice(*text.span)]
    [e] = tagger.explain([text])
    assert e.similarities[0] == pytest.approx(1, abs=1e-6)
    assert (e.text, e.sentence, e.position) == (text, 0, text.position)
    assert [len(p) for p in tagger.predict_proba([text, X[0]])] == [1, 7]


def test_relevance_scores_the_context_too(tagger):
    [e] = tagger.explain(NEW[:1], words=[[4]], token_method="relevance")
    assert np.count_nonzero(e.token_scores) > 1
    assert e.base_value + e.token_scores.sum() == pytest.approx(e.log_odds, abs=1e-5)
    assert e.token_similarities.shape == (len(e.tokens), len(tagger.prototypes_))
    np.testing.assert_allclose(
        e.token_similarities.sum(axis=0), e.similarities, atol=1e-5
    )
    assert e.alignment(3).sum() == pytest.approx(e.similarities[3], abs=1e-5)


def test_targets_and_rivals(tagger):
    first, second = tagger.explain(NEW[:1], words=[[1, 2]], target=["O", "B-per"])
    assert (first.target, second.target) == ("O", "B-per")
    [e] = tagger.explain(NEW[:1], words=[[1]], target="O", against="B-loc")
    assert "O rather than B-loc" in str(e)


def test_the_word_is_marked_in_print_html_and_figures(tagger):
    [e] = tagger.explain(NEW[:1], words=[[1]], top_k=2)
    text = str(e)
    assert text.startswith("today »kind« was in new rome")
    assert "B-per word" in text
    assert "of other tags" in text
    assert "»kind«" in e._repr_html_()
    assert "»" in tagger.prototypes_._repr_html_()
    assert "»" in repr(tagger.prototypes_)
    assert "»" in repr(e)
    assert e.plot().axes
    assert tagger.explain(NEW).plot().axes


@pytest.mark.parametrize("position", [0, 6, 10])
def test_the_marked_word_stays_in_a_short_line(position):
    text = MarkedWord("the long line in which one word is marked for all", position)
    assert shorten(text, 200) == text.marked()
    for length in range(1, 60):
        line = shorten(text, length)
        assert len(line) <= length
        assert length < 9 or f"»{text.word}«" in line


def test_json_keeps_the_word(tagger):
    explanations = tagger.explain(NEW)
    restored = Explanations.from_json(explanations.to_json())
    for one, two in zip(explanations, restored, strict=True):
        assert (one.text, one.sentence, one.word) == (two.text, two.sentence, two.word)
        assert one.prototype_texts == two.prototype_texts
        assert type(two) is WordExplanation
    entry = json.loads(json.dumps(explanations[0].to_dict()))
    assert (entry["word"], entry["position"], entry["sentence"]) == ("kind", 1, 0)
    broken = explanations.to_json().replace('"today kind was', '"was')
    with pytest.raises(ValueError, match="differs from the output"):
        Explanations.from_json(broken.replace("was in new rome", "was"))


def test_frames_have_a_row_per_word_and_prototype(tagger):
    frame = tagger.explain(NEW, top_k=2).to_frame()
    assert len(frame) == 2 * len(tagger.explain(NEW))
    assert frame["word"].tolist()[0] == "kind"
