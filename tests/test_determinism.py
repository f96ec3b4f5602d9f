"""The same seed gives the same fit, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import assert_same_predictions, without_times

VARIANTS = [
    {},
    {"formulation": "proto-lm"},
    {"finetune": "head"},
    {"projection": False},
    {"finetune": 1},
    {"early_stopping": True, "validation_fraction": 0.3},
    {"precision": "bf16"},
]


@pytest.mark.parametrize("parameters", VARIANTS, ids=str)
def test_the_same_seed_gives_the_same_fit(make_classifier, texts, parameters):
    X, y = texts
    one, other = (make_classifier(**parameters).fit(X, y) for _ in range(2))
    assert_same_predictions(one, other, X)
    assert without_times(one.history_) == without_times(other.history_)
    a, b = one.prototypes_, other.prototypes_
    np.testing.assert_array_equal(a.vectors, b.vectors)
    assert a.to_dict() == b.to_dict()
    assert one.explain(X[:3]).to_dict() == other.explain(X[:3]).to_dict()


@pytest.mark.parametrize("parameters", VARIANTS[:3], ids=str)
def test_another_seed_gives_another_fit(make_classifier, texts, parameters):
    X, y = texts
    one = make_classifier(**parameters).fit(X, y)
    other = make_classifier(**parameters, random_state=1).fit(X, y)
    assert not np.array_equal(one.predict_proba(X), other.predict_proba(X))
    assert without_times(one.history_) != without_times(other.history_)


def test_fits_without_a_seed_differ(make_classifier, texts):
    X, y = texts
    clf = make_classifier(random_state=None)
    one, other = (clf.fit(X, y).predict_proba(X) for _ in range(2))
    assert not np.array_equal(one, other)


def test_without_a_seed_numpys_global_generator_is_used(make_classifier, texts):
    X, y = texts
    probabilities, state = [], np.random.get_state()
    try:
        for _ in range(2):
            np.random.seed(3)
            clf = make_classifier(random_state=None).fit(X, y)
            probabilities.append(clf.predict_proba(X))
    finally:
        np.random.set_state(state)
    np.testing.assert_array_equal(*probabilities)


def test_a_random_state_advances_with_every_fit(make_classifier, texts):
    X, y = texts
    clf = make_classifier(random_state=np.random.RandomState(5))
    first = clf.fit(X, y).predict_proba(X)
    second = clf.fit(X, y).predict_proba(X)
    assert not np.array_equal(first, second)
    again = make_classifier(random_state=np.random.RandomState(5)).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), first)


def test_a_failed_fit_does_not_change_the_next(make_classifier, texts):
    X, y = texts
    clf = make_classifier()
    expected = make_classifier().fit(X, y).predict_proba(X)
    with pytest.raises(ValueError, match="at least two classes"):
        clf.fit(X, ["one"] * len(X))
    np.testing.assert_array_equal(clf.fit(X, y).predict_proba(X), expected)


def test_verbose_does_not_change_the_fit(make_classifier, texts, fitted):
    verbose = make_classifier(verbose=1).fit(*texts)
    assert_same_predictions(verbose, fitted, texts[0])


def test_the_order_of_texts_does_not_change_their_predictions(fitted, texts):
    """The texts of a batch and its padding depend on it."""
    X, _ = texts
    order = np.random.RandomState(0).permutation(len(X))
    p = fitted.predict_proba([X[i] for i in order])
    np.testing.assert_allclose(p, fitted.predict_proba(X)[order], atol=1e-5)


def test_predictions_are_repeatable(fitted, texts):
    X, _ = texts
    assert_same_predictions(fitted, fitted, X)
