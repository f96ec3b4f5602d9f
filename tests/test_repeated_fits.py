"""A further fit replaces the earlier one, and a failed fit keeps it."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from tests.helpers import assert_same_predictions
from tests.watching import stop_at


def test_refit_replaces_all_of_the_former_fit(make_classifier, texts):
    X, y = texts
    pairs = [(text, "so it was") for text in X[:30]]
    three = np.arange(30) % 3
    again = make_classifier(n_prototypes=2).fit(X, y).fit(pairs, three)
    fresh = make_classifier(n_prototypes=2).fit(pairs, three)
    assert vars(again).keys() == vars(fresh).keys()
    assert again.classes_.tolist() == [0, 1, 2]
    assert again.prototypes_.texts == fresh.prototypes_.texts
    assert len(again.history_) == again.n_iter_ == 2
    assert_same_predictions(again, fresh, pairs)
    with pytest.raises(ValueError, match="pairs"):
        again.predict(X)


@pytest.mark.parametrize(
    ("parameters", "arguments", "message"),
    [
        ({"sharpness": -1}, {}, "'sharpness' parameter"),
        ({}, {"X": ["a text", None]}, "Row 1"),
        ({}, {"y": ["pos"] * 48}, "at least two classes"),
        ({}, {"sample_weight": np.full(48, np.nan)}, "sample_weight"),
    ],
    ids=["parameter", "texts", "labels", "weights"],
)
def test_a_refused_fit_keeps_the_earlier_one(
    make_classifier, texts, parameters, arguments, message
):
    X, y = texts
    clf = make_classifier().fit(X, y)
    expected = clf.predict_proba(X)
    clf.set_params(**parameters)
    before = dict(vars(clf))
    with pytest.raises(ValueError, match=message):
        clf.fit(**{"X": X, "y": y, **arguments})
    assert vars(clf) == before
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


def test_a_failed_fit_keeps_the_earlier_one(make_classifier, texts, monkeypatch):
    X, y = texts
    clf = make_classifier().fit(X, y)
    before, expected = dict(vars(clf)), clf.predict_proba(X)
    stop_at(monkeypatch, 3, RuntimeError("a failure"))
    with pytest.raises(RuntimeError, match="a failure"):
        clf.fit(X, y)
    assert vars(clf) == before
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


def test_a_refit_does_not_change_copies(make_classifier, texts):
    X, y = texts
    clf = make_classifier().fit(X, y)
    twin, expected = copy.copy(clf), clf.predict_proba(X)
    deep = copy.deepcopy(clf)
    clf.set_params(random_state=1).fit(X[:20], y[:20])
    assert not np.array_equal(clf.predict_proba(X), expected)
    np.testing.assert_array_equal(twin.predict_proba(X), expected)
    np.testing.assert_array_equal(deep.predict_proba(X), expected)
