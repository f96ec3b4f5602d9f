"""The classifier inside tools of scikit-learn, and in threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skprotolm import ProtoLMClassifier
from tests.helpers import assert_same_predictions


def emphasize(X: list[str]) -> list[str]:
    return [text + "!" for text in X]


def test_pipeline(make_classifier, texts, fitted):
    X, y = texts
    pipeline = make_pipeline(FunctionTransformer(emphasize), make_classifier())
    pipeline.fit(X, y)
    direct = make_classifier().fit(emphasize(X), y)
    np.testing.assert_array_equal(
        pipeline.predict_proba(X), direct.predict_proba(emphasize(X))
    )
    assert pipeline.score(X, y) == direct.score(emphasize(X), y)
    assert pipeline.classes_.tolist() == ["neg", "pos"]


def test_pipeline_uses_the_features(make_classifier, texts):
    X, y = texts
    clf = make_classifier(max_epochs=5, n_prototypes=2)
    pipeline = make_pipeline(clf, LogisticRegression()).fit(X, y)
    names = pipeline[:-1].get_feature_names_out()
    assert pipeline[-1].n_features_in_ == len(names) == 4
    assert pipeline.score(X, y) > 0.8


@pytest.mark.parametrize("selector", ["text", ["text"]])
def test_column_transformer(make_classifier, texts, fitted, selector):
    X, y = texts
    frame = pd.DataFrame({"text": X, "length": [float(len(text)) for text in X]})
    columns = make_column_transformer(
        (make_classifier(), selector), ("passthrough", ["length"])
    )
    features = columns.fit_transform(frame, y)
    np.testing.assert_array_equal(features[:, :-1], fitted.transform(X))
    np.testing.assert_array_equal(columns.transform(frame), features)
    assert columns.get_feature_names_out().tolist() == [
        *(f"protolmclassifier__neg_{j}" for j in range(3)),
        *(f"protolmclassifier__pos_{j}" for j in range(3, 6)),
        "passthrough__length",
    ]


def test_column_transformer_with_pairs(make_classifier, texts):
    X, y = texts
    frame = pd.DataFrame({"first": X, "second": ["it was"] * 48, "n": 1.0})
    columns = make_column_transformer((make_classifier(), ["first", "second"]))
    features = columns.fit_transform(frame, y)
    pairs = [(text, "it was") for text in X]
    expected = make_classifier().fit(pairs, y).transform(pairs)
    np.testing.assert_array_equal(features, expected)


def test_features_as_a_frame(make_classifier, texts, fitted):
    X, y = texts
    clf = make_classifier().set_output(transform="pandas").fit(X, y)
    column = pd.Series(X, index=[f"row {i}" for i in range(48)])
    features = clf.transform(column)
    assert list(features.columns) == clf.get_feature_names_out().tolist()
    assert list(features.columns)[2:4] == ["neg_2", "pos_3"]
    np.testing.assert_array_equal(features.to_numpy(), fitted.transform(X))


def test_features_of_numeric_classes_have_names_too(make_classifier, texts):
    X, y = texts
    clf = make_classifier(n_prototypes=2, max_epochs=1)
    clf.set_output(transform="pandas").fit(X, y == "pos")
    names = ["False_0", "False_1", "True_2", "True_3"]
    assert clf.transform(X[:2]).columns.tolist() == names
    assert clf.relabel_prototypes({3: False}).get_feature_names_out()[3] == "False_3"


def test_a_frame_of_features_keeps_the_index(make_classifier, texts):
    X, y = texts
    clf = make_classifier().set_output(transform="pandas").fit(X, y)
    frame = pd.DataFrame({"text": X}, index=range(100, 148))
    assert clf.transform(frame).index.tolist() == list(range(100, 148))


def test_grid_search_in_two_processes(make_classifier, texts):
    X, y = texts
    grid = {"n_prototypes": [1, 2]}
    single = GridSearchCV(make_classifier(), grid, cv=2).fit(X, y)
    parallel = GridSearchCV(make_classifier(), grid, cv=2, n_jobs=2).fit(X, y)
    np.testing.assert_allclose(
        parallel.cv_results_["mean_test_score"], single.cv_results_["mean_test_score"]
    )
    assert parallel.best_params_ == single.best_params_
    best = make_classifier(**parallel.best_params_).fit(X, y)
    assert_same_predictions(parallel.best_estimator_, best, X)


def test_cross_validation(make_classifier, texts):
    X, y = texts
    folds = KFold(3, shuffle=True, random_state=0)
    clf = make_classifier(max_epochs=4, n_prototypes=1)
    scores = cross_val_score(clf, X, y, cv=folds)
    assert scores.shape == (3,)
    assert scores.mean() > 0.7
    p = cross_val_predict(clf, X, y, cv=folds, method="predict_proba")
    np.testing.assert_allclose(p.sum(axis=1), 1)
    predicted = np.array(["neg", "pos"])[p.argmax(axis=1)]
    by_fold = [np.mean((predicted == y)[test]) for _, test in folds.split(X)]
    np.testing.assert_allclose(by_fold, scores)


@pytest.mark.parametrize("ensemble", [True, False])
def test_calibration(make_classifier, texts, ensemble):
    X, y = texts
    clf = CalibratedClassifierCV(
        make_classifier(max_epochs=4, n_prototypes=1), cv=2, ensemble=ensemble
    ).fit(X, y)
    p = clf.predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert clf.score(X, y) > 0.7


def test_calibration_of_a_fitted_classifier(fitted, texts):
    X, y = texts
    expected = fitted.predict_proba(X)
    clf = CalibratedClassifierCV(FrozenEstimator(fitted)).fit(X, y)
    assert clf.score(X, y) > 0.8
    np.testing.assert_array_equal(fitted.predict_proba(X), expected)


def bag_of_words() -> Pipeline:
    return make_pipeline(CountVectorizer(), LogisticRegression())


def test_stacking(make_classifier, texts):
    X, y = texts
    stack = StackingClassifier(
        [
            ("proto", make_classifier(max_epochs=4, n_prototypes=1)),
            ("words", bag_of_words()),
        ],
        cv=2,
    ).fit(X, y)
    assert stack.final_estimator_.n_features_in_ == 2
    assert stack.score(X, y) > 0.8


@pytest.fixture
def voters(make_classifier) -> list[tuple[str, Any]]:
    return [
        ("proto", make_classifier(max_epochs=4, n_prototypes=1)),
        ("words", bag_of_words()),
    ]


@pytest.mark.parametrize("voting", ["soft", "hard"])
def test_voting(voters, texts, voting):
    X, y = texts
    vote = VotingClassifier(voters, voting=voting).fit(X, y)
    assert vote.score(X, y) > 0.8
    assert set(vote.predict(X)) <= {"neg", "pos"}


def test_soft_voting_averages_probabilities(voters, texts):
    X, y = texts
    vote = VotingClassifier(voters, voting="soft").fit(X, y)
    parts = [
        clone(estimator).fit(X, (y == "pos").astype(int)).predict_proba(X)
        for _, estimator in voters
    ]
    np.testing.assert_allclose(vote.predict_proba(X), np.mean(parts, axis=0))


# Threads.


def test_predictions_in_threads_are_those_in_sequence(fitted, texts):
    X, _ = texts
    parts = [X, X[::-1], X[:5], X[7:40]]
    expected = [fitted.predict_proba(part) for part in parts]
    start = threading.Barrier(len(parts))

    def predict(part: list[str]) -> list[np.ndarray]:
        start.wait()
        return [fitted.predict_proba(part) for _ in range(5)]

    with ThreadPoolExecutor(len(parts)) as pool:
        for arrays, one in zip(pool.map(predict, parts), expected, strict=True):
            for array in arrays:
                np.testing.assert_array_equal(array, one)


def test_fits_in_threads_are_those_in_sequence(make_classifier, texts):
    X, y = texts
    seeds = [0, 1]
    expected = [make_classifier(random_state=s).fit(X, y) for s in seeds]
    before = torch.get_rng_state()
    start = threading.Barrier(len(seeds))

    def fit(seed: int) -> ProtoLMClassifier:
        clf = make_classifier(random_state=seed)
        start.wait()
        return clf.fit(X, y)

    with ThreadPoolExecutor(len(seeds)) as pool:
        classifiers = list(pool.map(fit, seeds))
    for clf, one in zip(classifiers, expected, strict=True):
        assert_same_predictions(clf, one, X)
    assert torch.equal(torch.get_rng_state(), before)
