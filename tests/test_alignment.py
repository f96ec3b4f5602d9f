"""Alignments of words: the excess over the common part, and dicts."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
from torch.nn.modules.module import register_module_forward_hook
from transformers.models.bert.modeling_bert import BertEncoder

from skprotolm import WordAlignment
from skprotolm._records.parts import align
from tests.texts import make_texts


def make_alignment(matrix: np.ndarray) -> WordAlignment:
    V = matrix.shape[1]
    words, offsets = tuple("abcdefgh"[:V]), np.zeros((V, 3), dtype=int)
    correlation, unread = np.zeros_like(matrix), np.zeros(V, dtype=bool)
    return WordAlignment(matrix, correlation, words, offsets, unread)


def test_the_excess_and_the_outer_product_sum_to_the_matrix():
    matrix = np.random.RandomState(0).uniform(size=(4, 3))
    excess = make_alignment(matrix).excess
    rows, columns = matrix.sum(axis=1), matrix.sum(axis=0)
    for i in range(4):
        for j in range(3):
            expected = matrix[i, j] - rows[i] * columns[j] / matrix.sum()
            assert excess[i, j] == pytest.approx(expected)
    np.testing.assert_allclose(excess.sum(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(excess.sum(axis=1), 0, atol=1e-15)


def test_a_matrix_of_rank_one_has_no_excess():
    matrix = np.outer([1.0, 2.0, -0.5], [0.3, 0.1])
    np.testing.assert_allclose(make_alignment(matrix).excess, 0, atol=1e-15)


def test_the_excess_over_a_common_part_finds_the_pair():
    """All words match "b" best, since it has the largest weight."""
    matrix = np.outer([1.0, 1.0, 1.0], [1.0, 9.0, 1.0])
    matrix[2, 0] += 1
    alignment = make_alignment(matrix)
    assert matrix.argmax(axis=1).tolist() == [1, 1, 1]
    assert np.unravel_index(alignment.excess.argmax(), (3, 3)) == (2, 0)


@pytest.mark.parametrize("matrix", [[[0.0, 0.0]], [[1.0, -1.0]], [[0.1, 0.2, -0.3]]])
def test_the_excess_of_a_cosine_of_0_is_the_matrix(matrix):
    excess = make_alignment(np.array(matrix)).excess
    np.testing.assert_array_equal(excess, matrix)


def test_the_excess_of_an_explanation_sums_to_0(fitted):
    [e] = fitted.explain(["the food was good, today"])
    alignment = e.word_alignment(1)
    assert alignment.excess.sum() == pytest.approx(0, abs=1e-12)
    assert alignment.matrix.sum() == pytest.approx(e.similarities[1], abs=1e-5)


def test_the_correlation_is_the_excess_divided_by_lengths(fitted):
    [e] = fitted.explain(["the food was good, today"])
    alignment = e.word_alignment(1)
    ratio = alignment.excess / alignment.correlation  # of rank one: lengths × lengths
    assert (ratio > 0).all()
    np.testing.assert_allclose(
        ratio * ratio[0, 0], np.outer(ratio[:, 0], ratio[0]), rtol=1e-6
    )
    assert np.abs(alignment.correlation).max() <= 1 + 1e-12


def test_words_of_the_same_text_correlate_with_themselves(fitted):
    prototypes = fitted.prototypes_
    longest = max(range(len(prototypes)), key=lambda j: len(prototypes.texts[j]))
    [e] = fitted.explain([prototypes.texts[longest]])
    alignment = e.word_alignment(longest)
    assert alignment.words == e.words
    np.testing.assert_allclose(np.diag(alignment.correlation), 1, atol=1e-6)


def test_a_word_correlates_most_with_its_like_though_another_counts_more():
    """The excess is largest for a word of a large weight that is half alike."""
    common, x, y, z, other = np.eye(5)
    rows = np.array([common + 0.3 * x, common + 0.3 * y, common + 0.3 * z])
    half_alike = 5 * (common + 0.15 * (x + y + other))
    columns = np.array([common + 0.3 * x, half_alike, 10 * (common + 0.3 * z)])
    matrix, _, correlation = align(rows, columns)
    assert make_alignment(matrix).excess[0].argmax() == 1
    assert correlation[0].argmax() == 0


def test_dicts_contain_the_first_alignments(fitted):
    explanations = fitted.explain(make_texts(2)[0], top_k=4)
    plain = explanations.to_dict(n_alignments=2)
    assert json.loads(json.dumps(plain)) == plain
    for d, e in zip(plain, explanations, strict=True):
        assert [a["index"] for a in d["alignments"]] == [
            p.index for p in e.prototypes[:2]
        ]
        for a in d["alignments"]:
            alignment = e.word_alignment(a["index"])
            np.testing.assert_array_equal(a["matrix"], alignment.matrix)
            np.testing.assert_array_equal(a["excess"], alignment.excess)
            np.testing.assert_array_equal(a["correlation"], alignment.correlation)
            assert a["words"] == list(alignment.words)
            assert a["offsets"] == alignment.offsets.tolist()
            assert a["unread"] == alignment.unread.tolist()
    # At most those that are listed.
    assert len(explanations[0].to_dict(n_alignments=9)["alignments"]) == 4
    assert explanations[0].to_dict()["alignments"] == []


def test_dicts_leave_out_alignments_that_are_not_available(fitted):
    [e] = pickle.loads(pickle.dumps(fitted.explain(["good"])))
    assert e.to_dict(n_alignments=3)["alignments"] == []


def test_alignments_encode_each_text_once(fitted):
    """The explained text was encoded once per prototype."""
    [e] = fitted.explain(["the food was good"])
    passes = []

    def count(module: Any, args: Any, output: Any) -> None:
        if isinstance(module, BertEncoder):
            passes.append(module)

    hook = register_module_forward_hook(count)
    try:
        e.to_html(n_alignments=3)
    finally:
        hook.remove()
    assert len(passes) == 4  # the text and three prototypes


@pytest.mark.parametrize("index", ["negative", 1.0, True, None, [1], np.float64(1)])
def test_alignment_rejects_an_invalid_index(fitted, index):
    """The error was "'<=' not supported", and 1.5 was truncated to 1."""
    explanation = fitted.explain(["the food was good"])[0]
    for split in (explanation.alignment, explanation.word_alignment):
        with pytest.raises(
            TypeError, match=r"position in prototypes_, an int .* got"
        ) as e:
            split(index)
        assert repr(index) in str(e.value)
        for bad in (-1, 6):
            with pytest.raises(IndexError, match=f"There is no prototype {bad}"):
                split(bad)
    expected = explanation.alignment(2)
    np.testing.assert_array_equal(explanation.alignment(np.int64(2)), expected)


@pytest.mark.parametrize("n_alignments", ["all", 1.5, -1])
def test_an_invalid_number_of_alignments_is_rejected(fitted, n_alignments):
    """The error was about slice indices, and -1 meant all but the last prototype."""
    explanations = fitted.explain(["the food was good"])
    for view in (explanations.to_html, explanations.to_dict, explanations[0].to_dict):
        with pytest.raises(ValueError, match="n_alignments must be a non-negative int"):
            view(n_alignments=n_alignments)


def test_alignments_sum_to_the_cosine_in_bfloat16(make_classifier, texts):
    """Quoted texts were read in bfloat16, though their vectors are float32."""
    clf = make_classifier(precision="bf16", max_epochs=1).fit(*texts)
    [e] = clf.explain(["good food and a dull plot"])
    for j in range(len(clf.prototypes_)):
        assert e.alignment(j).sum() == pytest.approx(e.similarities[j], abs=1e-5)
