"""Sample and class weights become weights of mean 1."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse

from tests.test_targets import NAN, encode


@pytest.mark.parametrize("make", [list, np.array, pd.Series, pl.Series, tuple])
def test_weights_are_normalized_to_mean_one(make):
    targets = encode(["b", "a", "b"], sample_weight=make([1, 2, 3]))
    np.testing.assert_allclose(targets.weights, [0.5, 1.0, 1.5])


@pytest.mark.parametrize("weight", [1, 1.0, 7.5, np.float32(2), [1, 1, 1], [4, 4, 4]])
def test_equal_weights_equal_no_weights(weight):
    with_weights = encode(["b", "a", "b"], sample_weight=weight)
    np.testing.assert_array_equal(with_weights.weights, [1, 1, 1])


def test_texts_of_weight_zero_are_removed():
    targets = encode(["c", "b", "a", "b", "a"], sample_weight=[0, 1, 2, 0, 3])
    assert targets.classes.tolist() == ["a", "b"]  # "c" has only a text of weight 0
    assert targets.rows.tolist() == [1, 2, 4]
    assert targets.codes.tolist() == [1, 0, 0]
    np.testing.assert_allclose(targets.weights, [0.5, 1.0, 1.5])


def test_classes_of_weight_zero_are_removed():
    removed = encode(["a", "b", "c", "b"], class_weight={"a": 0})
    assert removed.classes.tolist() == ["b", "c"]
    assert removed.rows.tolist() == [1, 2, 3]
    np.testing.assert_allclose(removed.weights, [1, 1, 1])


def test_removing_a_class_keeps_the_other_weights():
    removed = encode(
        ["a", "b", "c", "b"], sample_weight=[9, 1, 2, 3], class_weight={"a": 0, "c": 3}
    )
    np.testing.assert_allclose(removed.weights, np.array([1, 6, 3]) / (10 / 3))


def test_sample_and_class_weights_are_multiplied():
    targets = encode(["b", "a", "b"], sample_weight=[1, 2, 3], class_weight={"a": 5})
    np.testing.assert_allclose(targets.weights, np.array([1, 10, 3]) / (14 / 3))


def test_balanced_classes_have_the_same_total_weight():
    y = ["a"] * 5 + ["b"] * 2 + ["c"]
    targets = encode(y, class_weight="balanced")
    totals = np.bincount(targets.codes, weights=targets.weights)
    np.testing.assert_allclose(totals, [8 / 3] * 3)


def test_balanced_counts_only_texts_of_positive_weight():
    y = ["a", "a", "a", "b"]
    targets = encode(y, sample_weight=[0, 0, 1, 1], class_weight="balanced")
    np.testing.assert_allclose(targets.weights, [1, 1])


@pytest.mark.parametrize(
    ("sample_weight", "message"),
    [
        # scikit-learn before 1.8 has no message for zeros.
        ([0, 0, 0], "weights (are zero|must contain at least one non-zero number)"),
        (0.0, "weights (are zero|must contain at least one non-zero number)"),
        ([1, -1, 1], "Negative values in data passed to `sample_weight`"),
        (-1, "Negative values in data passed to `sample_weight`"),
        ([1, 1, NAN], "Input sample_weight contains NaN"),
        (NAN, "Input sample_weight contains NaN"),
        ([1, np.inf, 1], "Input sample_weight contains infinity"),
        (np.inf, "Input sample_weight contains infinity"),
        ([1, None, 1], "Input sample_weight contains NaN"),
        ([1, 1], r"sample_weight.shape == \(2,\), expected \(3,\)"),
        ([[1], [1], [1]], "Sample weights must be 1D array or scalar"),
        ([1, 0, 1], r"one class \('b'\) among the texts of positive weight"),
        (["1", "x", "2"], "sample_weight must be one number per text.*str"),
        (np.array([1, 2j, 3]), "sample_weight must be one number per text.*complex"),
        ([10**400, 1, 1], "sample_weight must be one number per text"),
        (np.ma.array([1.0, 2, 3], mask=[0, 1, 0]), "Input sample_weight contains NaN"),
    ],
)
def test_invalid_sample_weights_are_refused(sample_weight, message):
    with pytest.raises(ValueError, match=message):
        encode(["b", "a", "b"], sample_weight=sample_weight)


def test_a_sparse_matrix_of_weights_is_refused_with_a_hint():
    with pytest.raises(TypeError, match=r"sample_weight.*toarray\(\)"):
        encode(["b", "a"], sample_weight=scipy.sparse.csr_matrix([[1.0, 2.0]]))


@pytest.mark.parametrize("tiny", [1e-50, 5e-324])
def test_weights_too_small_for_single_precision_count_as_zero(tiny):
    y = ["a", "b", "b", "a"]
    targets = encode(y, sample_weight=[1, 1, tiny, 1])
    assert targets.rows.tolist() == [0, 1, 3]
    with pytest.raises(ValueError, match=r"one class \('b'\)"):
        encode(y, class_weight={"a": tiny, "b": 1})


def test_class_weights_of_any_size_are_normalized():
    targets = encode(["a", "b"], class_weight={"a": 1e308, "b": 0.5e308})
    np.testing.assert_allclose(targets.weights, [4 / 3, 2 / 3])


def test_weights_of_any_size_are_normalized():
    """Their sum would be infinite."""
    targets = encode(["b", "a", "b"], sample_weight=[1e308, 1.5e308, 0.5e308])
    np.testing.assert_allclose(targets.weights, [1, 1.5, 0.5])


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({"a": -1}, "class_weight must .* at least 0, got -1 for 'a'"),
        ({"b": NAN}, "class_weight must hold finite numbers.*got nan for 'b'"),
        ({"a": np.inf}, "class_weight must hold finite numbers.*got inf for 'a'"),
        ({"a": 0, "b": 0}, "All weights are zero: sample_weight or class_weight"),
        ({"a": 0}, r"one class \('b'\)"),
        ({"a": 1, "z": 1}, r"\['b'\].* not in class_weight"),
    ],
)
def test_the_error_names_the_invalid_class_weight(class_weight, message):
    with pytest.raises(ValueError, match=message):
        encode(["b", "a", "b"], class_weight=class_weight)


@pytest.mark.parametrize("weight", ["heavy", None, [1], 10**400])
def test_class_weights_that_are_not_numbers_are_refused(weight):
    with pytest.raises(ValueError, match=r"class_weight must .*'a'"):
        encode(["b", "a", "b"], class_weight={"a": weight})
