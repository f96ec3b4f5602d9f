"""Streams of texts are read in chunks, as their results are consumed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from skprotolm import ProtoLMClassifier
from skprotolm.exceptions import TextTruncatedWarning

METHODS = ["predict", "predict_proba", "transform", "novelty_score"]


class Counted:
    """An iterator that counts what was read of it."""

    def __init__(self, texts: list[str]) -> None:
        self.texts, self.n_read = iter(texts), 0

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            self.n_read += 1
            yield text


@pytest.mark.parametrize("chunk_size", [1, 7, 1024])
@pytest.mark.parametrize("method", METHODS)
def test_results_are_those_of_the_method(fitted, texts, method, chunk_size):
    X = texts[0]
    stream = fitted.iter_predict(iter(X), method=method, chunk_size=chunk_size)
    expected = getattr(fitted, method)(X)
    results = list(stream)
    assert len(results) == len(expected)
    if method == "predict":
        assert results == expected.tolist()
    else:
        np.testing.assert_allclose(results, expected, atol=1e-5)


def test_explanations_are_those_of_explain(fitted, texts):
    X = texts[0][:5]
    options = {"target": "pos", "top_k": 2, "token_method": "decomposition"}
    stream = fitted.iter_explain(iter(X), chunk_size=2, **options)
    for e, expected in zip(stream, fitted.explain(X, **options), strict=True):
        assert (e.text, e.target, e.top_k) == (expected.text, "pos", 2)
        np.testing.assert_allclose(e.token_scores, expected.token_scores, atol=1e-5)


def test_texts_are_read_when_they_are_needed(fitted, texts):
    X = Counted(texts[0])
    stream = fitted.iter_predict(X, chunk_size=4)
    assert X.n_read == 0
    next(stream)
    assert X.n_read == 4
    next(stream)
    assert X.n_read == 4


def test_pairs_and_columns(make_classifier, fitted, texts):
    pairs = list(zip(texts[0], texts[0][::-1], strict=True))
    clf = make_classifier().fit(pairs, texts[1])
    assert list(clf.iter_predict(iter(pairs))) == clf.predict(pairs).tolist()
    expected = fitted.predict(texts[0]).tolist()
    assert list(fitted.iter_predict(pd.Series(texts[0]))) == expected
    assert list(fitted.iter_predict([])) == []


@pytest.mark.parametrize("n_short", [0, 3])
def test_a_truncated_stream_warns_once(make_classifier, texts, n_short):
    """Warnings were hidden after the first chunk, also if it had none."""
    clf = make_classifier(max_length=14).fit(*texts)
    X = ["a film"] * n_short + ["a film " * 30] * 6
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(list(clf.iter_predict(X, chunk_size=2))) == len(X)
    assert [w.category for w in caught] == [TextTruncatedWarning]
    assert caught[0].filename == __file__


def test_the_message_names_the_chunk(fitted, texts):
    stream = fitted.iter_predict([*texts[0][:5], None], chunk_size=4)
    for _ in range(4):
        next(stream)
    with pytest.raises(ValueError, match=r"Texts 4 to 5 .* is text 4: Row 1 of X"):
        next(stream)


@pytest.mark.parametrize(
    ("X", "options", "message"),
    [
        ("a text", {}, r"got a single str; pass \[text\]"),
        (7, {}, "got a single int"),
        (pd.DataFrame({"text": ["a"]}), {}, r"itertuples"),
        (["a"], {"method": "score"}, r"method must be one of .* got 'score'"),
        (["a"], {"chunk_size": 0}, "chunk_size must be a positive int, got 0"),
    ],
)
def test_arguments_are_checked_at_once(fitted, X, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fitted.iter_predict(X, **options)


def test_an_unfitted_estimator_says_so_at_once():
    with pytest.raises(NotFittedError):
        ProtoLMClassifier().iter_predict(["a"])
    with pytest.raises(NotFittedError):
        ProtoLMClassifier().iter_explain(["a"])
