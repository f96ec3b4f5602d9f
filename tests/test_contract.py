"""scikit-learn's contract: its own battery of checks, and its tools around texts."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError, SkipTestWarning
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
from sklearn.utils.class_weight import compute_sample_weight
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
from tests.tiny import make_encoder


def to_frame(X: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"text": X})


def shouted(X: list[str]) -> list[str]:
    return [text + "!" for text in X]


def assert_same_predictions(one: Any, other: Any, X: Any, X_other: Any = None) -> None:
    """Compare two classifiers on texts, bit by bit."""
    X_other = X if X_other is None else X_other
    for method in ("predict_proba", "predict", "decision_function", "transform"):
        np.testing.assert_array_equal(
            getattr(one, method)(X), getattr(other, method)(X_other), err_msg=method
        )


# --- scikit-learn's checks feed numbers, so a subclass writes them out as texts.


class NumbersAsTexts(ProtoLMClassifier):
    """A classifier of numeric rows, each written out as a text.

    One batch holds everything and nothing is dropped out, so that a fit is a
    function of the set of its weighted texts, and float64 lets it be compared.

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
        X, y = validate_data(self, X, y)
        return super().fit(written(X), y, sample_weight)

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


EXPECTED_FAILURES: dict[str, str] = {}


@pytest.fixture(scope="module")
def folder_of_numbers(tmp_path_factory) -> Path:
    """A folder that holds a backbone in float64, without dropout."""
    parent = tmp_path_factory.mktemp("numbers")
    folder = parent / "tiny-float64"
    make_encoder("bert", folder, dtype=torch.float64, seed=2)
    config = json.loads((folder / "config.json").read_text())
    config["hidden_dropout_prob"] = config["attention_probs_dropout_prob"] = 0.0
    config["num_hidden_layers"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    return parent


@pytest.fixture
def beside_the_folder(folder_of_numbers, monkeypatch):
    monkeypatch.chdir(folder_of_numbers)


@pytest.mark.usefixtures("beside_the_folder")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.FewerPrototypesWarning")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
@parametrize_with_checks(
    [NumbersAsTexts()],
    # Strict, as pyproject.toml says of every expected failure.
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_scikit_learn_runs_no_check_of_its_own_on_an_estimator_of_texts():
    """Its checks feed numbers; that the estimator can be cloned is all it looks at."""
    with pytest.warns(SkipTestWarning, match="ProtoLMClassifier"):
        checks = list(estimator_checks_generator(ProtoLMClassifier()))
    assert [check.func.__name__ for _, check in checks] == ["check_estimator_cloneable"]
    for estimator, check in checks:
        check(estimator)


# --- Parameters.


def test_parameters_come_back_as_they_were_given(tiny_bert):
    clf = ProtoLMClassifier(tiny_bert, n_prototypes={"a": 1, "b": 2}, sharpness=20)
    assert clf.get_params()["backbone"] is tiny_bert
    assert clf.get_params()["n_prototypes"] == {"a": 1, "b": 2}
    other = ProtoLMClassifier().set_params(**clf.get_params())
    assert other.get_params() == clf.get_params()
    with pytest.raises(ValueError, match="n_prototype'"):
        clf.set_params(n_prototype=3)


def test_fit_changes_no_parameter(make_classifier, texts):
    clf = make_classifier(n_prototypes={"neg": 2, "pos": 1}, class_weight="balanced")
    before = dict(clf.get_params())
    clf.fit(*texts)
    assert clf.get_params() == before


def test_a_clone_has_the_parameters_and_nothing_of_the_fit(fitted, texts):
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


def test_repr_names_what_differs_from_the_defaults():
    assert repr(ProtoLMClassifier()) == "ProtoLMClassifier()"
    shown = repr(ProtoLMClassifier("folder", n_prototypes=4, sharpness=30.0))
    assert shown == "ProtoLMClassifier(backbone='folder', n_prototypes=4)"


# --- Before fit, and after.


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table])
def test_columns_of_pairs_must_be_those_of_the_fit(make_classifier, texts, frame):
    """Swapped columns were read as if they were not, first everywhere, then in some."""
    X, y = texts
    first, second = X, [f"{text} ?" for text in X]
    there = frame({"question": first, "answer": second})
    clf = make_classifier(max_epochs=1).fit(there, y)
    expected = clf.predict_proba(there)
    back = frame({"answer": second, "question": first})
    named = frame({"a": first, "b": second})
    asked = {
        "predict": clf.predict,
        "explain": clf.explain,
        "X_train": lambda X: clf.report(there, y, "never", X_train=X, y_train=y),
        "add_prototypes": lambda X: clf.add_prototypes(X, y),
        "similarities": clf.prototypes_.nearest,
        "purity": lambda X: prototype_purity(clf, X, y),
        "simulatability": lambda X: simulatability(clf, X),
        "evaluation": lambda X: evaluate_explanations(clf, X),
    }
    for X_new in (back, named):
        for ask in asked.values():
            with pytest.raises(ValueError, match="should match those that were passed"):
                ask(X_new)
    pairs = list(zip(first, second, strict=True))
    np.testing.assert_array_equal(clf.predict_proba(pairs), expected)
    restored = pickle.loads(pickle.dumps(clf))
    with pytest.raises(ValueError, match=r"are \['answer', 'question'\]"):
        restored.predict(back)
    clf.fit(pairs, y)  # names are forgotten where there are none
    np.testing.assert_array_equal(clf.predict_proba(named), expected)


def test_a_column_may_be_called_as_an_attribute_of_frames(make_classifier, texts):
    """Its texts were taken for the names of the columns."""
    X, y = texts
    frame = pd.DataFrame({"column_names": X, "columns": X})
    clf = make_classifier(max_epochs=1).fit(frame, y)
    with pytest.raises(ValueError, match=r"are \['columns', 'column_names'\]"):
        clf.predict(frame[["columns", "column_names"]])


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "decision_function", "transform", "explain"]
)
def test_before_fit_every_question_is_answered_with_not_fitted(method):
    with pytest.raises(NotFittedError, match="ProtoLMClassifier"):
        getattr(ProtoLMClassifier(), method)(["a text"])


def test_before_fit_there_is_nothing_of_a_fit():
    clf = ProtoLMClassifier()
    for name in ("prototypes_", "classes_", "history_", "learning_rate_", "n_iter_"):
        assert not hasattr(clf, name), name
    with pytest.raises(NotFittedError):
        clf.get_feature_names_out()
    with pytest.raises(NotFittedError):
        check_is_fitted(clf)


def test_after_fit_there_is_all_of_it(fitted):
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
def test_nothing_to_predict_is_an_error(fitted, method):
    with pytest.raises(ValueError, match="0 sample"):
        getattr(fitted, method)([])


@pytest.mark.parametrize("container", [tuple, np.asarray, pd.Series, to_frame])
def test_every_container_gives_what_a_list_gives(fitted, texts, container):
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
def test_labels_of_every_kind_come_back(make_classifier, texts, labels):
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
def test_labels_in_every_container(make_classifier, texts, fitted, y_type):
    X, y = texts
    clf = make_classifier().fit(X, y_type(y))
    assert clf.classes_.tolist() == fitted.classes_.tolist()
    assert_same_predictions(clf, fitted, X)


# --- Fitting again.


def test_refit_drops_everything_of_the_former_fit(make_classifier, texts):
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


def explode(*args: Any, **kwargs: Any) -> None:
    raise RuntimeError("the machine fell over")


@pytest.mark.parametrize("where", ["parameter", "texts", "labels", "weights", "middle"])
def test_a_failed_fit_leaves_the_earlier_one_as_it_was(
    make_classifier, texts, where, monkeypatch
):
    X, y = texts
    clf = make_classifier().fit(X, y)
    before, expected = dict(vars(clf)), clf.predict_proba(X)
    arguments: dict[str, Any] = {"X": X, "y": y}
    if where == "parameter":
        clf.set_params(sharpness=-1)
        before["sharpness"] = -1
    elif where == "texts":
        arguments["X"] = [*X[:-1], None]
    elif where == "labels":
        arguments["y"] = ["pos"] * len(X)
    elif where == "weights":
        arguments["sample_weight"] = np.full(len(X), np.nan)
    else:
        monkeypatch.setattr(torch.optim.AdamW, "step", explode)
    with pytest.raises((ValueError, RuntimeError)):
        clf.fit(**arguments)
    assert vars(clf) == before
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


def test_a_refit_leaves_a_copy_as_it_was(make_classifier, texts):
    X, y = texts
    clf = make_classifier().fit(X, y)
    twin, expected = copy.copy(clf), clf.predict_proba(X)
    deep = copy.deepcopy(clf)
    clf.set_params(random_state=1).fit(X[:20], y[:20])
    assert not np.array_equal(clf.predict_proba(X), expected)
    np.testing.assert_array_equal(twin.predict_proba(X), expected)
    np.testing.assert_array_equal(deep.predict_proba(X), expected)


# --- Weights.


@pytest.mark.parametrize("ones", [np.ones(48), np.ones(48, dtype=int), [3.0] * 48, 1.0])
def test_equal_weights_are_no_weights(make_classifier, texts, fitted, ones):
    clf = make_classifier().fit(*texts, sample_weight=ones)
    assert_same_predictions(clf, fitted, texts[0])


def test_weight_zero_is_a_text_that_is_not_there(make_classifier, texts):
    X, y = texts
    there = np.arange(48) % 3 > 0
    weighted = make_classifier().fit(X, y, sample_weight=there.astype(float))
    without = make_classifier().fit(np.array(X)[there], y[there])
    assert_same_predictions(weighted, without, X)
    assert weighted.prototypes_.texts == without.prototypes_.texts


def test_weights_count(make_classifier, texts):
    X, _ = texts
    y = np.random.RandomState(0).permutation(["neg", "pos"] * 24)  # not to be learned
    clf = make_classifier(n_prototypes=1, max_epochs=4, head_learning_rate=0.1)
    leanings = []
    for heavy in ("neg", "pos"):
        clf.fit(X, y, sample_weight=np.where(y == heavy, 20.0, 1.0))
        leanings.append(clf.predict_proba(X)[:, 1].mean())
    assert leanings[0] < 0.4
    assert leanings[1] > 0.6


def test_class_weights_are_sample_weights_by_label(make_classifier, texts):
    X, y = texts
    weights = {"neg": 1.0, "pos": 5.0}
    by_class = make_classifier(class_weight=weights).fit(X, y)
    by_text = make_classifier().fit(X, y, sample_weight=[weights[label] for label in y])
    assert_same_predictions(by_class, by_text, X)


def test_balanced_classes_weigh_the_same_in_sum(make_classifier, texts, fitted):
    X, y = texts
    balanced = make_classifier(class_weight="balanced")
    assert_same_predictions(clone(balanced).fit(X, y), fitted, X)
    few = np.flatnonzero((y == "neg") | (np.arange(48) < 12))
    X, y = [X[i] for i in few], y[few]
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


# --- Inside scikit-learn's tools.


def test_pipeline(make_classifier, texts, fitted):
    X, y = texts
    pipeline = make_pipeline(FunctionTransformer(shouted), make_classifier())
    pipeline.fit(X, y)
    direct = make_classifier().fit(shouted(X), y)
    np.testing.assert_array_equal(
        pipeline.predict_proba(X), direct.predict_proba(shouted(X))
    )
    assert pipeline.score(X, y) == direct.score(shouted(X), y)
    assert pipeline.classes_.tolist() == ["neg", "pos"]


def test_pipeline_reads_its_features(make_classifier, texts):
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
    found = columns.fit_transform(frame, y)
    np.testing.assert_array_equal(found[:, :-1], fitted.transform(X))
    np.testing.assert_array_equal(columns.transform(frame), found)
    assert columns.get_feature_names_out().tolist() == [
        *(f"protolmclassifier__protolmclassifier{j}" for j in range(6)),
        "passthrough__length",
    ]


def test_column_transformer_hands_over_pairs(make_classifier, texts):
    X, y = texts
    frame = pd.DataFrame({"first": X, "second": ["it was"] * 48, "n": 1.0})
    columns = make_column_transformer((make_classifier(), ["first", "second"]))
    found = columns.fit_transform(frame, y)
    pairs = [(text, "it was") for text in X]
    expected = make_classifier().fit(pairs, y).transform(pairs)
    np.testing.assert_array_equal(found, expected)


def test_features_as_a_frame(make_classifier, texts, fitted):
    X, y = texts
    clf = make_classifier().set_output(transform="pandas").fit(X, y)
    column = pd.Series(X, index=[f"row {i}" for i in range(48)])
    found = clf.transform(column)
    assert list(found.columns) == clf.get_feature_names_out().tolist()
    assert list(found.columns)[:2] == ["protolmclassifier0", "protolmclassifier1"]
    np.testing.assert_array_equal(found.to_numpy(), fitted.transform(X))


def test_a_frame_of_features_keeps_the_index(make_classifier, texts):
    X, y = texts
    clf = make_classifier().set_output(transform="pandas").fit(X, y)
    frame = pd.DataFrame({"text": X}, index=range(100, 148))
    assert clf.transform(frame).index.tolist() == list(range(100, 148))


def test_grid_search_in_two_processes(make_classifier, texts):
    X, y = texts
    grid = {"n_prototypes": [1, 2]}
    here = GridSearchCV(make_classifier(), grid, cv=2).fit(X, y)
    there = GridSearchCV(make_classifier(), grid, cv=2, n_jobs=2).fit(X, y)
    np.testing.assert_allclose(
        there.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"]
    )
    assert there.best_params_ == here.best_params_
    best = make_classifier(**there.best_params_).fit(X, y)
    assert_same_predictions(there.best_estimator_, best, X)


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


def of_words() -> Pipeline:
    return make_pipeline(CountVectorizer(), LogisticRegression())


def test_stacking(make_classifier, texts):
    X, y = texts
    stack = StackingClassifier(
        [
            ("proto", make_classifier(max_epochs=4, n_prototypes=1)),
            ("words", of_words()),
        ],
        cv=2,
    ).fit(X, y)
    assert stack.final_estimator_.n_features_in_ == 2
    assert stack.score(X, y) > 0.8


@pytest.mark.parametrize("voting", ["soft", "hard"])
def test_voting(make_classifier, texts, voting):
    X, y = texts
    names = [
        ("proto", make_classifier(max_epochs=4, n_prototypes=1)),
        ("words", of_words()),
    ]
    vote = VotingClassifier(names, voting=voting).fit(X, y)
    assert vote.score(X, y) > 0.8
    assert set(vote.predict(X)) <= {"neg", "pos"}
    if voting == "soft":
        parts = [
            clone(estimator).fit(X, (y == "pos").astype(int)).predict_proba(X)
            for _, estimator in names
        ]
        np.testing.assert_allclose(vote.predict_proba(X), np.mean(parts, axis=0))


def test_weights_find_their_way_through_pipelines(make_classifier, texts):
    X, y = texts
    weights = (np.arange(48) % 3 > 0).astype(float)
    direct = make_classifier().fit(X, y, sample_weight=weights)
    with config_context(enable_metadata_routing=True):
        asking = make_classifier().set_fit_request(sample_weight=True)
        routed = make_pipeline(asking).fit(X, y, sample_weight=weights)
        deaf = make_classifier().set_fit_request(sample_weight=False)
        unweighted = make_pipeline(FunctionTransformer(), deaf).fit(X, y)
    np.testing.assert_array_equal(routed.predict_proba(X), direct.predict_proba(X))
    assert not np.array_equal(unweighted.predict_proba(X), direct.predict_proba(X))


def test_weights_find_their_way_through_a_search(make_classifier, texts):
    X, y = texts
    weights = (np.arange(48) % 3 > 0).astype(float)
    with config_context(enable_metadata_routing=True):
        asking = make_classifier().set_fit_request(sample_weight=True)
        asking.set_score_request(sample_weight=True)
        search = GridSearchCV(asking, {"n_prototypes": [2]}, cv=2)
        search.fit(X, y, sample_weight=weights)
    direct = make_classifier(n_prototypes=2).fit(X, y, sample_weight=weights)
    assert_same_predictions(search.best_estimator_, direct, X)


# --- What a notebook shows of it.


def test_html_shows_the_fit_without_running_the_model(fitted, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "__call__", explode)
    shown = fitted._repr_html_()
    assert "ProtoLMClassifier" in shown
    assert "n_prototypes" in shown
    assert "fitted" in shown
    assert len(shown) < 200_000


def test_html_of_the_estimator_escapes_training_texts(make_classifier):
    X = [f"<script>alert({i})</script> {word}" for i in range(4) for word in "ab"]
    clf = make_classifier(n_prototypes=1, max_epochs=1).fit(X, ["<b>a</b>", "b"] * 4)
    shown = clf._repr_html_()
    assert "<script>alert(" not in shown
    assert "<b>a" not in shown


# --- Threads.


def test_predictions_from_threads_are_those_of_one(fitted, texts):
    X, _ = texts
    parts = [X, X[::-1], X[:5], X[7:40]]
    expected = [fitted.predict_proba(part) for part in parts]
    start = threading.Barrier(len(parts))

    def predict(part: list[str]) -> list[np.ndarray]:
        start.wait()
        return [fitted.predict_proba(part) for _ in range(5)]

    with ThreadPoolExecutor(len(parts)) as pool:
        for found, one in zip(pool.map(predict, parts), expected, strict=True):
            for array in found:
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
        found = list(pool.map(fit, seeds))
    for clf, one in zip(found, expected, strict=True):
        assert_same_predictions(clf, one, X)
    assert torch.equal(torch.get_rng_state(), before)
