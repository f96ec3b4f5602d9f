"""Explanations of long texts lead with their sentences; pages fold the others."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from skprotolm import ProtoLMRegressor
from skprotolm._explaining.alignment import TokenSplits
from skprotolm._records.matching import every_pair
from skprotolm._records.words import sum_by_word
from tests.test_windows import PAIRS, WIDTH, X, Y

LONG = " ".join(
    f"It was the {i}th day. The food was {w}!"
    for i in range(20)
    for w in ("bad", "good")
)


@pytest.fixture(scope="module")
def clf(make_classifier) -> Any:
    return make_classifier(long_text="window", max_length=WIDTH).fit(X, Y)


@pytest.fixture(scope="module")
def e(clf) -> Any:
    return clf.explain([LONG])[0]


def tags_removed(page: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", page).split())


# Text.


def test_print_leads_with_sentences_which_sum_to_the_words(e):
    lines = str(e).splitlines()
    assert lines[2] == "  sentences (relevance)"
    listed = lines[3:9]
    order = np.argsort(-np.abs(e.sentence_scores), kind="stable")
    for line, i in zip(listed[:5], order, strict=False):
        assert f'"{e.sentences[i]}"' in line
        assert float(line.split()[0]) == pytest.approx(e.sentence_scores[i], abs=0.006)
    assert listed[5].endswith(f"{len(e.sentences) - 5} other sentences")
    total = sum(float(line.split()[0]) for line in listed)
    assert total == pytest.approx(e.token_scores.sum(), abs=0.04)


def test_words_of_a_listed_sentence_are_its_own(e):
    for line in str(e).splitlines()[3:8]:
        quoted, *words = re.findall(r'"([^"]*)"', line)
        assert all(word in quoted for word in words)


def test_a_colored_text_counts_the_sentences_that_it_leaves_out(e):
    first = e.to_text(color=True).splitlines()[0]
    shown = re.sub(r"\x1b\[[\d;]*m", "", first)
    counted = sum(map(int, re.findall(r"\[… (\d+) sentences\]", shown)))
    assert counted > 10
    assert len(shown) < len(LONG)


def test_numbers_lead_with_sentences(tiny_folder):
    reg = ProtoLMRegressor(
        str(tiny_folder), long_text="window", max_length=WIDTH, max_epochs=1
    ).fit(X, np.arange(24) / 3)
    [e] = reg.explain([LONG])
    lines = str(e).splitlines()
    assert lines[2].startswith("  sentences (")
    assert "other sentences" in lines[8]
    assert "sentences are folded" in tags_removed(e.to_html(n_alignments=1))


# Pages.


def test_a_page_says_how_much_is_folded(e):
    page = e.to_html(n_alignments=0)
    note = re.search(
        r"(\d+) of (\d+) sentences are folded: (\d+) words, which sum to ([-+.\d]+)\.",
        tags_removed(page),
    )
    n_folded, n_all, n_words, total = note.groups()
    assert int(n_all) == len(e.sentences) == 80
    assert int(n_folded) >= 60
    assert 0 < int(n_words) < len(e.words)
    runs = re.findall(r"… (\d+) sentences, ([-+.\d]+)", tags_removed(page))
    assert sum(int(n) for n, _ in runs) == int(n_folded)
    shown = re.findall(r'<b class="skprotolm-sentence">([-+.\d]+)</b>', page)
    assert len(shown) == 80 - int(n_folded)
    assert sum(float(score) for _, score in runs) == pytest.approx(
        float(total), abs=0.0006 * (len(runs) + 1)
    )
    everything = float(total) + sum(map(float, shown))
    assert everything == pytest.approx(e.token_scores.sum(), abs=0.0006 * 20)


def test_a_short_text_is_not_folded(clf):
    page = clf.explain(["the food was good. it was."]).to_html()
    assert "are folded" not in page
    assert 'class="skprotolm-sentence"' not in page


def test_a_page_of_a_pair_folds_its_long_text(make_classifier):
    clf = make_classifier(long_text="window", max_length=WIDTH).fit(PAIRS, Y)
    page = tags_removed(clf.explain([("was it good?", LONG)]).to_html())
    assert re.search(r"\d+ of 81 sentences are folded", page)


# Alignment.


def test_sentences_align_by_the_sums_of_their_words(e):
    words, sentences = e.word_alignment(2), e.sentence_alignment(2)
    assert sentences.matrix.sum() == pytest.approx(e.similarities[2], abs=1e-5)
    text = e.prototype_texts[2]
    assert all(s in text for s in sentences.sentences)
    ids = e.sentence_ids
    columns = np.array(
        [
            np.flatnonzero(sentences.offsets[:, 1] <= start)[-1]
            for start in words.offsets[:, 1]
        ]
    )
    expected = np.zeros(sentences.matrix.shape)
    for i in range(len(ids)):
        for j in range(len(columns)):
            expected[ids[i], columns[j]] += words.matrix[i, j]
    np.testing.assert_allclose(sentences.matrix, expected, atol=1e-9)
    assert sentences.excess.sum() == pytest.approx(0, abs=1e-9)
    assert np.abs(sentences.correlation).max() <= 1 + 1e-9


def test_matches_of_a_long_text_are_those_of_its_words(e):
    """Sentence by sentence, pairs have the same excess and correlation."""
    alignment = e.word_alignment(1)
    quoted, matches = e._matches(1)
    assert quoted.words == alignment.words
    assert 0 < len(matches.rows) < alignment.matrix.size
    pairs = matches.rows, matches.columns
    np.testing.assert_allclose(matches.excess, alignment.excess[pairs], atol=1e-9)
    np.testing.assert_allclose(
        matches.correlation, alignment.correlation[pairs], atol=1e-6
    )


def test_matches_of_a_short_text_are_all_pairs(clf):
    [e] = clf.explain(["the food was good"])
    alignment = e.word_alignment(0)
    _, matches = e._matches(0)
    expected = every_pair(alignment.excess, alignment.correlation)
    for found, values in zip(matches, expected, strict=True):
        np.testing.assert_array_equal(found, values)


def test_a_page_links_matching_words_of_a_long_text(e):
    assert "<script" in e.to_html(n_alignments=2)


def test_a_long_text_is_encoded_once_though_it_fills_the_cache(clf, forward_calls):
    """Every quote pushed the text out of the cache, which was read again."""
    splits = TokenSplits(clf._fitted, max_numbers=100)
    splits.token_parts(LONG)
    forward_calls.clear()
    for j in range(4):
        splits.prototype_parts(j)
        splits.token_parts(LONG)
    n_read = sum(n for n, _ in forward_calls)
    for j in range(4):
        splits.prototype_parts(j)
    assert sum(n for n, _ in forward_calls) == 2 * n_read > 0
    [e] = clf.explain([LONG])
    assert sum_by_word(splits.token_parts(LONG), e.word_ids).shape[0] == len(e.words)
