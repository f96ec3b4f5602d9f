"""scikit-learn's callbacks around a fit: what they are told and given, and may do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from skprotolm.exceptions import (
    FitInterruptedWarning,
)
from tests.watching import Watcher


@pytest.mark.usefixtures("callbacks")
def test_numbers_that_a_callback_draws_change_nothing(make_classifier, texts, fitted):
    """They came from the generator that dropout reads."""

    class Drawing(Watcher):
        def on_fit_task_begin(self, *args: Any, **kwargs: Any) -> None:
            torch.rand(3)

    X, y = texts
    clf = make_classifier().set_callbacks(Drawing()).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), fitted.predict_proba(X))


@pytest.mark.usefixtures("callbacks")
def test_a_callback_that_fails_at_the_end_leaves_the_earlier_fit(
    make_classifier, texts
):
    """The new one was in place already."""

    class Failing(Watcher):
        def on_fit_task_end(self, estimator: Any, context: Any, **data: Any) -> None:
            if context.task_name == "fit":
                raise RuntimeError("no")

    X, y = texts
    clf = make_classifier().fit(X, y)
    expected = clf.predict_proba(X)
    with pytest.raises(RuntimeError, match="no"):
        clf.set_callbacks(Failing()).fit(X, np.where(y == "pos", 1, 0))
    assert clf.classes_.tolist() == ["neg", "pos"]
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


@pytest.mark.usefixtures("callbacks")
def test_an_interrupt_at_the_very_end_keeps_what_was_learned(make_classifier, texts):
    """All of it was lost, or the fit before it was still there."""

    class Interrupting(Watcher):
        def on_fit_task_end(self, estimator: Any, context: Any, **data: Any) -> None:
            if context.task_name == "fit":
                raise KeyboardInterrupt

    X, y = texts
    expected = make_classifier().fit(X, y).predict_proba(X)
    clf = make_classifier().set_callbacks(Interrupting())
    with pytest.warns(FitInterruptedWarning), pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


@pytest.mark.usefixtures("callbacks")
def test_a_callback_is_told_of_the_fit_and_of_every_epoch(make_classifier, texts):
    X, y = texts
    watcher = Watcher()
    clf = make_classifier(max_epochs=3).set_callbacks(watcher).fit(X, y)
    assert watcher.started_tasks == ["fit", "epoch", "epoch", "epoch"]
    assert watcher.ended_tasks == ["epoch", "epoch", "epoch", "fit"]
    assert watcher.max_subtasks == 3
    assert watcher.n_teardowns == 1
    np.testing.assert_array_equal(watcher.predictions[-1][0], clf.predict_proba(X))


@pytest.mark.usefixtures("callbacks")
def test_a_callback_sees_the_model_without_dropout(make_classifier, texts):
    """The model was still in training mode, and predicted something else each time."""
    watcher = Watcher()
    make_classifier().set_callbacks(watcher).fit(*texts)
    for one, other in watcher.predictions:
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("callbacks")
def test_a_callback_that_looks_on_changes_nothing(make_classifier, texts, fitted):
    """Its predictions drew dropout from the generator that the fit goes on with."""
    X, y = texts
    clf = make_classifier().set_callbacks(Watcher()).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), fitted.predict_proba(X))


@pytest.mark.usefixtures("callbacks")
def test_what_a_callback_is_given_names_its_features(make_classifier, texts):
    """Its prototypes were None, so that frames of features failed within an epoch."""
    X, y = texts
    watcher = Watcher()
    make_classifier().set_callbacks(watcher).fit(X, y)
    for estimator in watcher.estimators:
        names = estimator.get_feature_names_out()
        assert len(names) == estimator.transform(X[:1]).shape[1]


@pytest.mark.usefixtures("callbacks")
@pytest.mark.parametrize("n_prototypes", [3, "auto"])
@pytest.mark.parametrize("projection", [True, False])
def test_what_a_callback_is_given_is_what_a_stop_would_give(
    make_classifier, texts, projection, n_prototypes
):
    X, y = texts
    parameters = {
        "max_epochs": 3,
        "projection": projection,
        "n_prototypes": n_prototypes,
    }
    watcher = Watcher()
    make_classifier(**parameters).set_callbacks(watcher).fit(X, y)
    for n_epochs in (1, 2):
        stopped = make_classifier(**parameters)
        stopped.set_callbacks(Watcher(stop_after=n_epochs)).fit(X, y)
        given = watcher.estimators[n_epochs - 1]
        np.testing.assert_array_equal(given.predict_proba(X), stopped.predict_proba(X))
        assert given.prototypes_.texts == stopped.prototypes_.texts
        shares = given.explain(X[:1])[0].contributions
        np.testing.assert_allclose(shares.sum(), 1, atol=1e-6)


@pytest.mark.usefixtures("callbacks")
@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_a_stopped_fit_lets_prototypes_go_too(make_classifier, texts, formulation):
    """Those that no text has as its nearest were kept."""
    X, y = texts
    few = [0, 2, 4, 1, 3, 5]
    clf = make_classifier(n_prototypes="auto", max_epochs=3, formulation=formulation)
    clf.set_callbacks(Watcher(stop_after=1)).fit([X[i] for i in few], y[few])
    assert clf.n_iter_ == 1
    assert len(clf.prototypes_) < 6  # each text can not stand for another one
    assert len(clf.explain(X[:1])[0].contributions) == len(clf.prototypes_)


@pytest.mark.usefixtures("callbacks")
def test_what_a_callback_was_given_stays_as_it_was(make_classifier, texts):
    """It was the model under training itself, which went on changing."""
    X, y = texts
    watcher = Watcher()
    make_classifier(max_epochs=3).set_callbacks(watcher).fit(X, y)
    for estimator, (seen, _) in zip(
        watcher.estimators, watcher.predictions, strict=True
    ):
        np.testing.assert_allclose(estimator.predict_proba(X), seen, atol=1e-6)


@pytest.mark.usefixtures("callbacks")
@pytest.mark.parametrize("projection", [True, False])
@pytest.mark.parametrize("early_stopping", [True, False])
def test_a_callback_stops_the_fit(make_classifier, texts, projection, early_stopping):
    X, y = texts
    clf = make_classifier(
        max_epochs=5,
        n_prototypes=2,
        projection=projection,
        early_stopping=early_stopping,
        validation_fraction=0.3,
    )
    clf.set_callbacks(Watcher(stop_after=2)).fit(X, y)
    assert clf.n_iter_ == len(clf.history_) == 2
    assert clf.prototypes_.projected.all() == projection
    if projection:
        cosines = clf.transform(list(clf.prototypes_.texts))
        np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-5)
    assert np.isfinite(clf.predict_proba(X)).all()
    assert clf.explain(X[:1])[0].contributions.sum() == pytest.approx(1)


@pytest.mark.usefixtures("callbacks")
def test_a_callback_may_be_interrupted(make_classifier, texts):
    X, y = texts
    watcher = Watcher(error=KeyboardInterrupt())
    clf = make_classifier(max_epochs=3).set_callbacks(watcher)
    with (
        pytest.warns(FitInterruptedWarning, match="1 of 3 whole epochs"),
        pytest.raises(KeyboardInterrupt),
    ):
        clf.fit(X, y)
    assert watcher.n_teardowns == 1
    assert clf.n_iter_ == 1
    assert np.isfinite(clf.predict_proba(X)).all()


@pytest.mark.usefixtures("callbacks")
def test_a_callback_that_fails_fails_the_fit_and_changes_nothing(
    make_classifier, texts
):
    X, y = texts
    clf = make_classifier().fit(X, y)
    expected = clf.predict_proba(X)
    clf.set_callbacks(Watcher(error=RuntimeError("no disk space")))
    with pytest.raises(RuntimeError, match="no disk space"):
        clf.fit(X[:20], y[:20])
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


def test_scores_are_monitored(make_classifier, texts, callbacks):
    monitor = callbacks.ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    clf = make_classifier(max_epochs=3).set_callbacks(monitor)
    clf.fit(*texts, sample_weight=np.ones(48))
    rows = monitor.get_logs().data
    assert [row["task_name"] for row in rows].count("epoch") == 3
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    [final] = [row for row in rows if row["task_name"] == "fit"]
    assert final["accuracy"] == clf.score(*texts)


def test_a_progress_bar_of_scikit_learn_will_do(
    make_classifier, texts, callbacks, capsys
):
    pytest.importorskip("rich")
    clf = make_classifier().set_callbacks(callbacks.ProgressBar()).fit(*texts)
    assert clf.n_iter_ == 2
    assert "ProtoLMClassifier - fit" in capsys.readouterr().out
