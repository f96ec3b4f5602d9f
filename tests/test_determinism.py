"""The same seed gives the same fit, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

METHODS = ("predict_proba", "decision_function", "transform")
VARIANTS = [
    {},
    {"formulation": "proto-lm"},
    {"finetune": "head"},
    {"projection": False},
    {"early_stopping": True, "validation_fraction": 0.3},
    {"precision": "bf16"},
]


def timeless(history):
    """Return the history without its clock."""
    return [{k: v for k, v in e.items() if k != "texts_per_second"} for e in history]


@pytest.mark.parametrize("parameters", VARIANTS, ids=str)
def test_the_same_seed_gives_the_same_fit(make_classifier, texts, parameters):
    X, y = texts
    one, other = (make_classifier(**parameters).fit(X, y) for _ in range(2))
    for method in METHODS:
        np.testing.assert_array_equal(
            getattr(one, method)(X), getattr(other, method)(X), err_msg=method
        )
    assert timeless(one.history_) == timeless(other.history_)
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
    assert timeless(one.history_) != timeless(other.history_)


def test_without_a_seed_every_fit_is_another(make_classifier, texts):
    X, y = texts
    clf = make_classifier(random_state=None)
    one, other = (clf.fit(X, y).predict_proba(X) for _ in range(2))
    assert not np.array_equal(one, other)


def test_without_a_seed_numpy_s_global_one_is_read(make_classifier, texts, monkeypatch):
    X, y = texts
    found = []
    for _ in range(2):
        # numpy.random.mtrand._rand is what scikit-learn's check_random_state returns.
        monkeypatch.setattr(np.random.mtrand, "_rand", np.random.RandomState(3))
        found.append(make_classifier(random_state=None).fit(X, y).predict_proba(X))
    np.testing.assert_array_equal(*found)


def test_a_random_state_moves_on_from_fit_to_fit(make_classifier, texts):
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


@pytest.mark.parametrize("change", ["order", "verbose"])
def test_what_does_not_matter_does_not_change_the_fit(make_classifier, texts, change):
    X, y = texts
    expected = make_classifier().fit(X, y).predict_proba(X)
    if change == "verbose":
        found = make_classifier(verbose=1).fit(X, y).predict_proba(X)
        np.testing.assert_array_equal(found, expected)
    else:  # of the texts to predict: padding and company of a text do not count
        order = np.random.RandomState(0).permutation(len(X))
        found = make_classifier().fit(X, y).predict_proba([X[i] for i in order])
        np.testing.assert_allclose(found, expected[order], atol=1e-5)


def test_predicting_twice_gives_the_same(fitted, texts):
    X, _ = texts
    np.testing.assert_array_equal(fitted.predict_proba(X), fitted.predict_proba(X))
