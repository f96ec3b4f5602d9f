"""Explanations in print."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from skprotolm import Explanation
from skprotolm._records.words import find_words, split_pair
from tests.texts import make_texts


def with_words(e: Explanation, text: Any, scores: list[float]) -> Explanation:
    """Return an explanation of another text with one token of such a score per word."""
    spans = [
        (segment, *span)
        for segment, side in enumerate(split_pair(text))
        for span in find_words(side)
    ]
    segments, offsets = np.split(np.array(spans), [1], axis=1)
    return replace(
        e,
        text=text,
        tokens=tuple(split_pair(text)[s][start:end] for s, start, end in spans),
        offsets=offsets,
        segments=segments[:, 0],
        attention=np.full(len(spans), 1 / len(spans)),
        token_scores=np.array(scores),
        token_unread=np.zeros(len(spans), dtype=bool),
    )


@pytest.fixture
def explanation(fitted) -> Explanation:
    return fitted.explain(make_texts(2)[0])[0]


def word_line(e: Explanation) -> str:
    [line] = [line for line in str(e).splitlines() if line.startswith("  words (")]
    return line.partition(": ")[2]


def test_print_lists_words_of_at_least_a_tenth_of_the_strongest_score(explanation):
    """Words without any weight were listed."""
    e = with_words(explanation, "a film, good", [0.05, -0.1, 0.099, 1.0])
    assert word_line(e) == '"good" +1.00, "film" -0.10'


def test_print_lists_the_four_strongest_words(explanation):
    e = with_words(explanation, "a b c d e", [0.5, 0.6, -0.9, 0.8, 0.7])
    assert word_line(e) == '"c" -0.90, "d" +0.80, "e" +0.70, "b" +0.60, …'


def test_print_says_which_text_of_a_pair_a_word_is_from(explanation):
    e = with_words(explanation, ("good card", "card"), [0.3, 0.2, -0.1])
    assert word_line(e) == '"good" (first) +0.30, "card" (first) +0.20, ' + (
        '"card" (second) -0.10'
    )
    e = replace(e, token_unread=np.array([False, True, False]))
    assert '"card" (first, not read) +0.20' in str(e)


def test_print_names_no_words_without_scores(explanation):
    e = with_words(explanation, "a film", [0.0, 0.0])
    assert "words (relevance)" not in str(e)


def test_print_lists_the_two_strongest_sentences_of_four(explanation):
    scores = [0.1, 0.1, -0.2, -0.2, 0.5, 0.5, -0.1, 0.2]
    e = with_words(explanation, "a . b . c . d .", scores)
    lines = str(e).splitlines()
    assert lines[-2] == '  sentences (relevance): "c ." +1.00, "b ." -0.40, …'
    e = with_words(explanation, ("a . b .", "c . d ."), scores)
    assert '"c ." (second) +1.00, "b ." (first) -0.40, …' in str(e)
    e = with_words(explanation, "a . b . c .", scores[:6])
    assert "sentences" not in str(e)
