"""scikit-learn's callbacks during a fit: when they are called, and with what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from skprotolm.exceptions import FitInterruptedWarning
from tests.helpers import FORMULATIONS
from tests.watching import Watcher


@pytest.mark.usefixtures("callbacks")
def test_random_numbers_drawn_by_a_callback_do_not_change_the_fit(
    make_classifier, texts, fitted
):
    """Dropout uses the same generator."""

    class Drawing(Watcher):
        def on_fit_task_begin(self, *args: Any, **kwargs: Any) -> None:
            torch.rand(3)

    X, y = texts
    clf = make_classifier().set_callbacks(Drawing()).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), fitted.predict_proba(X))


@pytest.mark.usefixtures("callbacks")
def test_an_error_of_a_callback_at_the_end_keeps_the_earlier_fit(
    make_classifier, texts
):
    class Failing(Watcher):
        def on_fit_task_end(self, estimator: Any, context: Any, **data: Any) -> None:
            if context.task_name == "fit":
                raise MemoryError("no disk")  # not an error of the device

    X, y = texts
    clf = make_classifier().fit(X, y)
    expected = clf.predict_proba(X)
    with pytest.raises(MemoryError, match="no disk"):
        clf.set_callbacks(Failing()).fit(X, np.where(y == "pos", 1, 0))
    assert clf.classes_.tolist() == ["neg", "pos"]
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


@pytest.mark.usefixtures("callbacks")
def test_an_interrupt_in_the_last_callback_keeps_what_was_learned(
    make_classifier, texts
):
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
def test_callbacks_are_called_around_the_fit_and_every_epoch(make_classifier, texts):
    X, y = texts
    watcher = Watcher()
    clf = make_classifier(max_epochs=3).set_callbacks(watcher).fit(X, y)
    assert watcher.started_tasks == ["fit", "epoch", "epoch", "epoch"]
    assert watcher.ended_tasks == ["epoch", "epoch", "epoch", "fit"]
    assert watcher.max_subtasks == 3
    assert watcher.n_teardowns == 1
    np.testing.assert_array_equal(watcher.predictions[-1][0], clf.predict_proba(X))


@pytest.mark.usefixtures("callbacks")
def test_the_model_of_a_callback_predicts_without_dropout(make_classifier, texts):
    watcher = Watcher()
    make_classifier().set_callbacks(watcher).fit(*texts)
    for one, other in watcher.predictions:
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("callbacks")
def test_predictions_of_a_callback_do_not_change_the_fit(
    make_classifier, texts, fitted
):
    X, y = texts
    clf = make_classifier().set_callbacks(Watcher()).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), fitted.predict_proba(X))


@pytest.mark.usefixtures("callbacks")
def test_the_estimator_of_a_callback_has_feature_names(make_classifier, texts):
    """Frames of features need them."""
    X, y = texts
    watcher = Watcher()
    make_classifier().set_callbacks(watcher).fit(X, y)
    for estimator in watcher.estimators:
        names = estimator.get_feature_names_out()
        assert len(names) == estimator.transform(X[:1]).shape[1]


@pytest.mark.usefixtures("callbacks")
@pytest.mark.parametrize("n_prototypes", [3, "auto"])
@pytest.mark.parametrize("projection", [True, False])
def test_the_estimator_of_a_callback_is_what_a_stop_returns(
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
        shown = watcher.estimators[n_epochs - 1]
        np.testing.assert_array_equal(shown.predict_proba(X), stopped.predict_proba(X))
        assert shown.prototypes_.texts == stopped.prototypes_.texts
        shares = shown.explain(X[:1])[0].contributions
        np.testing.assert_allclose(shares.sum(), 1, atol=1e-6)


@pytest.mark.usefixtures("callbacks")
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_a_stopped_fit_projects_prototypes(make_classifier, texts, formulation):
    X, y = texts
    few = [0, 2, 4, 1, 3, 5]
    clf = make_classifier(n_prototypes="auto", max_epochs=3, formulation=formulation)
    clf.set_callbacks(Watcher(stop_after=1)).fit([X[i] for i in few], y[few])
    assert clf.n_iter_ == 1
    assert set(clf.prototypes_.texts) <= {X[i] for i in few}
    assert clf.prototypes_.projected.all()
    assert len(clf.explain(X[:1])[0].contributions) == len(clf.prototypes_)


@pytest.mark.usefixtures("callbacks")
def test_the_estimator_of_a_callback_does_not_change_afterwards(make_classifier, texts):
    X, y = texts
    watcher = Watcher()
    make_classifier(max_epochs=3).set_callbacks(watcher).fit(X, y)
    for estimator, (expected, _) in zip(
        watcher.estimators, watcher.predictions, strict=True
    ):
        np.testing.assert_allclose(estimator.predict_proba(X), expected, atol=1e-6)


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
    assert clf.prototypes_.projected.tolist() == [projection] * 4
    cosines = np.diag(clf.transform(list(clf.prototypes_.texts)))
    assert np.allclose(cosines, 1, atol=1e-5) == projection
    assert np.isfinite(clf.predict_proba(X)).all()
    assert clf.explain(X[:1])[0].contributions.sum() == pytest.approx(1)


@pytest.mark.usefixtures("callbacks")
def test_an_interrupt_in_a_callback_keeps_what_was_learned(make_classifier, texts):
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
def test_an_error_of_a_callback_is_raised_and_changes_nothing(make_classifier, texts):
    X, y = texts
    clf = make_classifier().fit(X, y)
    expected = clf.predict_proba(X)
    clf.set_callbacks(Watcher(error=RuntimeError("no disk space")))
    with pytest.raises(RuntimeError, match="no disk space"):
        clf.fit(X[:20], y[:20])
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


def test_scikit_learns_scoring_monitor_works(make_classifier, texts, callbacks):
    monitor = callbacks.ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    clf = make_classifier(max_epochs=3).set_callbacks(monitor)
    clf.fit(*texts, sample_weight=np.ones(48))
    rows = monitor.get_logs().data
    assert [row["task_name"] for row in rows].count("epoch") == 3
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    [final] = [row for row in rows if row["task_name"] == "fit"]
    assert final["accuracy"] == clf.score(*texts)


def test_scikit_learns_progress_bar_works(make_classifier, texts, callbacks, capsys):
    pytest.importorskip("rich")
    clf = make_classifier().set_callbacks(callbacks.ProgressBar()).fit(*texts)
    assert clf.n_iter_ == 2
    assert "ProtoLMClassifier - fit" in capsys.readouterr().out
