"""Weights of texts and of classes."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.class_weight import compute_sample_weight

from tests.helpers import assert_same_predictions


@pytest.mark.parametrize("ones", [np.ones(48), np.ones(48, dtype=int), [3.0] * 48, 1.0])
def test_equal_weights_change_nothing(make_classifier, texts, fitted, ones):
    clf = make_classifier().fit(*texts, sample_weight=ones)
    assert_same_predictions(clf, fitted, texts[0])


def test_texts_of_weight_0_are_left_out(make_classifier, texts):
    X, y = texts
    used = np.arange(48) % 3 > 0
    weighted = make_classifier().fit(X, y, sample_weight=used.astype(float))
    without = make_classifier().fit(np.array(X)[used], y[used])
    assert_same_predictions(weighted, without, X)
    assert weighted.prototypes_.texts == without.prototypes_.texts


def test_heavier_texts_attract_predictions(make_classifier, texts):
    X, _ = texts
    y = np.random.RandomState(0).permutation(["neg", "pos"] * 24)  # at random
    clf = make_classifier(n_prototypes=1, max_epochs=4, head_learning_rate=0.1)
    means = []
    for heavy in ("neg", "pos"):
        clf.fit(X, y, sample_weight=np.where(y == heavy, 20.0, 1.0))
        means.append(clf.predict_proba(X)[:, 1].mean())
    assert means[0] < 0.4
    assert means[1] > 0.6


def test_class_weights_are_sample_weights_by_label(make_classifier, texts):
    X, y = texts
    weights = {"neg": 1.0, "pos": 5.0}
    by_class = make_classifier(class_weight=weights).fit(X, y)
    by_text = make_classifier().fit(X, y, sample_weight=[weights[label] for label in y])
    assert_same_predictions(by_class, by_text, X)


def test_balanced_weights_are_those_of_scikit_learn(make_classifier, texts, fitted):
    X, y = texts
    balanced = make_classifier(class_weight="balanced")
    assert_same_predictions(clone(balanced).fit(X, y), fitted, X)
    rows = np.flatnonzero((y == "neg") | (np.arange(48) < 12))
    X, y = [X[i] for i in rows], y[rows]
    balanced.set_params(n_prototypes=1).fit(X, y)
    weights = compute_sample_weight("balanced", y)
    by_text = make_classifier(n_prototypes=1).fit(X, y, sample_weight=weights)
    assert_same_predictions(balanced, by_text, X)


def test_class_weights_multiply_sample_weights(make_classifier, texts):
    X, y = texts
    weights = np.linspace(0.5, 1.5, 48)
    both = make_classifier(class_weight={"pos": 3.0}).fit(X, y, sample_weight=weights)
    product = weights * np.where(y == "pos", 3.0, 1.0)
    assert_same_predictions(both, make_classifier().fit(X, y, sample_weight=product), X)


# Metadata routing.


def test_weights_are_routed_through_pipelines(make_classifier, texts):
    X, y = texts
    weights = (np.arange(48) % 3 > 0).astype(float)
    direct = make_classifier().fit(X, y, sample_weight=weights)
    with config_context(enable_metadata_routing=True):
        requesting = make_classifier().set_fit_request(sample_weight=True)
        routed = make_pipeline(requesting).fit(X, y, sample_weight=weights)
        ignoring = make_classifier().set_fit_request(sample_weight=False)
        unweighted = make_pipeline(FunctionTransformer(), ignoring).fit(X, y)
    np.testing.assert_array_equal(routed.predict_proba(X), direct.predict_proba(X))
    assert not np.array_equal(unweighted.predict_proba(X), direct.predict_proba(X))


def test_weights_are_routed_through_a_search(make_classifier, texts):
    X, y = texts
    weights = (np.arange(48) % 3 > 0).astype(float)
    with config_context(enable_metadata_routing=True):
        requesting = make_classifier().set_fit_request(sample_weight=True)
        requesting.set_score_request(sample_weight=True)
        search = GridSearchCV(requesting, {"n_prototypes": [2]}, cv=2)
        search.fit(X, y, sample_weight=weights)
    direct = make_classifier(n_prototypes=2).fit(X, y, sample_weight=weights)
    assert_same_predictions(search.best_estimator_, direct, X)
