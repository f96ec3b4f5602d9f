"""scikit-learn's contract: its checks, parameters, attributes and containers."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.utils.estimator_checks import (
    estimator_checks_generator,
    parametrize_with_checks,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from skprotolm import ProtoLMClassifier
from skprotolm.metrics import (
    evaluate_explanations,
    prototype_purity,
    simulatability,
)
from tests.helpers import assert_same_predictions
from tests.tiny import make_encoder


def to_frame(X: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"text": X})


# scikit-learn's checks pass numbers, which a subclass writes out as texts.


class NumbersAsTexts(ProtoLMClassifier):
    """A classifier of rows of numbers, each written out as a text.

    With one batch and without dropout a fit depends only on the set of weighted texts,
    and in float64 fits can be compared.

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : ndarray
    """

    def __init__(
        self,
        backbone: str = "tiny-float64",
        *,
        n_prototypes: int = 1,
        preservation: float = 0.0,
        label_smoothing: float = 0.0,
        max_epochs: int = 30,
        n_iter_no_change: int = 2,
        batch_size: int = 512,
        learning_rate: float = 1e-2,
        head_learning_rate: float = 3e-2,
        class_weight: object = None,
        random_state: object = None,
    ):
        super().__init__(
            backbone,
            n_prototypes=n_prototypes,
            preservation=preservation,
            label_smoothing=label_smoothing,
            max_epochs=max_epochs,
            n_iter_no_change=n_iter_no_change,
            batch_size=batch_size,
            learning_rate=learning_rate,
            head_learning_rate=head_learning_rate,
            class_weight=class_weight,
            random_state=random_state,
        )

    def fit(self, X, y, sample_weight=None):
        X, y = validate_data(self, X, y, multi_output=np.asarray(y).ndim > 1)
        return super().fit(written(X), y, sample_weight)

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        if not hasattr(self, "classes_"):
            return self.fit(X, y, sample_weight)
        X, y = validate_data(self, X, y, reset=False)
        return super().partial_fit(written(X), y, classes, sample_weight)

    def predict(self, X):
        return super().predict(self._checked(X))

    def predict_proba(self, X):
        return super().predict_proba(self._checked(X))

    def decision_function(self, X):
        return super().decision_function(self._checked(X))

    def transform(self, X):
        return super().transform(self._checked(X))

    def _checked(self, X):
        check_is_fitted(self)
        return written(validate_data(self, X, reset=False))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = False
        tags.input_tags.string = False
        return tags


def written(X) -> list[str]:
    """Write numbers with one decimal; the tiny tokenizer has no 4."""
    four = str.maketrans("4", "a")
    return [" ".join(f"{value:.1f}".translate(four) for value in row) for row in X]


@pytest.fixture(scope="module")
def folder_of_numbers(tmp_path_factory) -> Path:
    """A folder that contains a backbone in float64, without dropout."""
    parent = tmp_path_factory.mktemp("numbers")
    folder = parent / "tiny-float64"
    make_encoder("bert", folder, dtype=torch.float64, seed=2)
    config = json.loads((folder / "config.json").read_text())
    config["hidden_dropout_prob"] = config["attention_probs_dropout_prob"] = 0.0
    config["num_hidden_layers"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    return parent


@pytest.fixture
def in_folder_of_numbers(folder_of_numbers, monkeypatch):
    monkeypatch.chdir(folder_of_numbers)


@pytest.mark.usefixtures("in_folder_of_numbers")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.FewerPrototypesWarning")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
@parametrize_with_checks([NumbersAsTexts()])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_scikit_learn_itself_only_checks_that_an_estimator_of_texts_is_cloneable():
    """Its other checks pass numbers."""
    with pytest.warns(SkipTestWarning, match="ProtoLMClassifier"):
        checks = list(estimator_checks_generator(ProtoLMClassifier()))
    assert [check.func.__name__ for _, check in checks] == ["check_estimator_cloneable"]
    for estimator, check in checks:
        check(estimator)


# Parameters.


def test_parameters_are_stored_unchanged(tiny_bert):
    clf = ProtoLMClassifier(tiny_bert, n_prototypes={"a": 1, "b": 2}, sharpness=20)
    assert clf.get_params()["backbone"] is tiny_bert
    assert clf.get_params()["n_prototypes"] == {"a": 1, "b": 2}
    other = ProtoLMClassifier().set_params(**clf.get_params())
    assert other.get_params() == clf.get_params()
    with pytest.raises(ValueError, match="n_prototype'"):
        clf.set_params(n_prototype=3)


def test_fit_does_not_change_parameters(make_classifier, texts):
    clf = make_classifier(n_prototypes={"neg": 2, "pos": 1}, class_weight="balanced")
    before = dict(clf.get_params())
    clf.fit(*texts)
    assert clf.get_params() == before


def test_a_clone_has_the_parameters_and_no_fitted_attributes(fitted, texts):
    twin = clone(fitted)
    assert twin.get_params() == fitted.get_params()
    assert not [name for name in vars(twin) if name not in twin.get_params()]
    twin.fit(*texts)
    assert_same_predictions(twin, fitted, texts[0])


def test_a_clone_copies_an_encoder(tiny_bert):
    clf = ProtoLMClassifier(tiny_bert)
    copied = clone(clf).backbone
    assert copied is not tiny_bert
    assert all(
        torch.equal(a, b)
        for a, b in zip(tiny_bert.parameters(), copied.parameters(), strict=True)
    )


def test_repr_shows_parameters_that_differ_from_the_defaults():
    assert repr(ProtoLMClassifier()) == "ProtoLMClassifier()"
    shown = repr(ProtoLMClassifier("folder", n_prototypes=4, sharpness="auto"))
    assert shown == "ProtoLMClassifier(backbone='folder', n_prototypes=4)"


# Before and after fit.


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table])
def test_columns_of_pairs_must_be_those_of_the_fit(make_classifier, texts, frame):
    """Swapped columns are refused by every method."""
    X, y = texts
    first, second = X, [f"{text} ?" for text in X]
    pairs = frame({"question": first, "answer": second})
    clf = make_classifier(max_epochs=1).fit(pairs, y)
    expected = clf.predict_proba(pairs)
    swapped = frame({"answer": second, "question": first})
    renamed = frame({"a": first, "b": second})
    methods = {
        "predict": clf.predict,
        "explain": clf.explain,
        "X_train": lambda X: clf.report(pairs, y, "never", X_train=X, y_train=y),
        "add_prototypes": lambda X: clf.add_prototypes(X, y),
        "similarities": clf.prototypes_.nearest,
        "purity": lambda X: prototype_purity(clf, X, y),
        "simulatability": lambda X: simulatability(clf, X),
        "evaluation": lambda X: evaluate_explanations(clf, X),
    }
    for X_new in (swapped, renamed):
        for method in methods.values():
            with pytest.raises(ValueError, match="should match those that were passed"):
                method(X_new)
    unnamed = list(zip(first, second, strict=True))
    np.testing.assert_array_equal(clf.predict_proba(unnamed), expected)
    restored = pickle.loads(pickle.dumps(clf))
    with pytest.raises(ValueError, match=r"are \['answer', 'question'\]"):
        restored.predict(swapped)
    clf.fit(unnamed, y)  # without names, frames of any names are accepted
    np.testing.assert_array_equal(clf.predict_proba(renamed), expected)


def test_a_column_may_have_the_name_of_a_frame_attribute(make_classifier, texts):
    X, y = texts
    frame = pd.DataFrame({"column_names": X, "columns": X})
    clf = make_classifier(max_epochs=1).fit(frame, y)
    with pytest.raises(ValueError, match=r"are \['columns', 'column_names'\]"):
        clf.predict(frame[["columns", "column_names"]])


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "decision_function", "transform", "explain"]
)
def test_methods_raise_not_fitted_error_before_fit(method):
    with pytest.raises(NotFittedError, match="ProtoLMClassifier"):
        getattr(ProtoLMClassifier(), method)(["a text"])


def test_fitted_attributes_are_missing_before_fit():
    clf = ProtoLMClassifier()
    for name in ("prototypes_", "classes_", "history_", "learning_rate_", "n_iter_"):
        assert not hasattr(clf, name), name
    with pytest.raises(NotFittedError):
        clf.get_feature_names_out()
    with pytest.raises(NotFittedError):
        check_is_fitted(clf)


def test_fitted_attributes_are_set_by_fit(fitted):
    check_is_fitted(fitted)
    assert fitted.classes_.tolist() == ["neg", "pos"]
    assert len(fitted.prototypes_) == 6
    assert fitted.n_iter_ == len(fitted.history_) == 2


@pytest.mark.parametrize("column", [list, np.asarray, pd.Series, to_frame])
def test_n_features_is_never_set_for_text(make_classifier, texts, column):
    X, y = texts
    clf = make_classifier(max_epochs=1).fit(column(X), y)
    assert not hasattr(clf, "n_features_in_")
    assert not hasattr(clf, "feature_names_in_")


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "decision_function", "transform", "explain"]
)
def test_predicting_no_texts_is_an_error(fitted, method):
    with pytest.raises(ValueError, match="0 sample"):
        getattr(fitted, method)([])


@pytest.mark.parametrize("container", [tuple, np.asarray, pd.Series, to_frame])
def test_predictions_do_not_depend_on_the_container(fitted, texts, container):
    X, _ = texts
    assert_same_predictions(fitted, fitted, X[:5], container(X[:5]))


@pytest.mark.parametrize(
    "labels",
    [
        ["no", "yes"],
        [False, True],
        [0, 1],
        [-7, 3],
        [2.0, 5.0],
        np.array(["no", "yes"], dtype=object),
        np.array([3, 9], dtype=np.uint8),
    ],
    ids=lambda labels: f"{np.asarray(labels).dtype}-{np.asarray(labels)[1]}",
)
def test_labels_of_every_type_are_predicted(make_classifier, texts, labels):
    X, names = texts
    y = np.asarray(labels)[(names == "pos").astype(int)]
    clf = make_classifier(max_epochs=1).fit(X, y)
    assert clf.classes_.tolist() == list(labels)
    predicted = clf.predict(X)
    assert predicted.dtype == y.dtype
    assert set(predicted.tolist()) <= set(np.asarray(labels).tolist())
    kind = type(np.asarray(labels).tolist()[0])
    explanation = clf.explain(X[:1])[0]
    assert type(explanation.prediction) is kind
    assert type(clf.prototypes_[0].label) is kind
    assert list(explanation.probabilities) == np.asarray(labels).tolist()
    assert explanation.prediction == predicted[0]


@pytest.mark.parametrize("y_type", [list, pd.Series, pd.Categorical])
def test_labels_may_be_in_any_container(make_classifier, texts, fitted, y_type):
    X, y = texts
    clf = make_classifier().fit(X, y_type(y))
    assert clf.classes_.tolist() == fitted.classes_.tolist()
    assert_same_predictions(clf, fitted, X)


# HTML in a notebook.


def fail(*args: Any, **kwargs: Any) -> None:
    raise RuntimeError("a failure")


def test_html_shows_the_fit_without_running_the_model(fitted, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "__call__", fail)
    shown = fitted._repr_html_()
    assert "ProtoLMClassifier" in shown
    assert "n_prototypes" in shown
    assert "fitted" in shown
    assert len(shown) < 200_000


def test_html_escapes_training_texts_and_labels(make_classifier):
    X = [f"<script>alert({i})</script> {word}" for i in range(4) for word in "ab"]
    clf = make_classifier(n_prototypes=1, max_epochs=1).fit(X, ["<b>a</b>", "b"] * 4)
    shown = clf._repr_html_()
    assert "<script>alert(" not in shown
    assert "<b>a" not in shown
