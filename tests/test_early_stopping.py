"""Early stopping: the best weights are kept, and what is held out for them."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skprotolm._training.trainer import TrainingSet
from skprotolm.exceptions import (
    FewerPrototypesWarning,
)
from tests.conftest import make_texts
from tests.watching import Snapshots, Watcher, weights_of


def first_that_is_final(snapshots: Snapshots, clf: Any) -> int:
    """Return the first epoch whose model the fit gave; all later ones show it, too."""
    final = weights_of(clf)
    kept = [weights_of(pickle.loads(model)) for model in snapshots.models]
    is_final = [
        all(torch.equal(final[name], weights[name]) for name in final)
        for weights in kept
    ]
    first = is_final.index(True)
    assert all(is_final[first:])
    return first


EARLY = {
    "early_stopping": True,
    "validation_fraction": 0.4,
    "n_prototypes": 1,
    "learning_rate": 1e-2,
    "head_learning_rate": 1e-2,
}


@pytest.mark.parametrize("seed", [1, 8, 9])
def test_early_stopping_keeps_the_best_epoch(make_classifier, seed):
    pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9")
    X, y = make_texts(40, seed=seed)
    y = np.where(np.random.RandomState(seed).rand(40) < 0.3, y[::-1], y)  # noisy
    snapshots = Snapshots()
    clf = make_classifier(
        **EARLY, projection=False, max_epochs=7, n_iter_no_change=7, random_state=seed
    )
    clf.set_callbacks(snapshots).fit(X, y)
    scores = [epoch["validation_score"] for epoch in clf.history_]
    assert scores[-1] < max(scores), "the last epoch is the best: this says nothing"
    first = first_that_is_final(snapshots, clf)
    assert scores[first] == max(scores)


@pytest.mark.parametrize("seed", [1, 6, 8])
def test_a_callback_s_stop_keeps_the_best_epoch_too(make_classifier, seed):
    """The epoch that it stopped in was not compared with the best before it."""
    pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9")
    X, y = make_texts(40, seed=seed)
    y = np.where(np.random.RandomState(seed).rand(40) < 0.3, y[::-1], y)  # noisy

    def fit(*callbacks: Any) -> Any:
        clf = make_classifier(
            **EARLY,
            projection=False,
            max_epochs=7,
            n_iter_no_change=7,
            random_state=seed,
        )
        return clf.set_callbacks(*callbacks).fit(X, y)

    scores = [epoch["validation_score"] for epoch in fit(Watcher()).history_]
    for n_epochs in (1 + int(np.argmax(scores)), 7):
        snapshots = Snapshots()
        clf = fit(Watcher(stop_after=n_epochs), snapshots)
        assert clf.n_iter_ == n_epochs
        first = first_that_is_final(snapshots, clf)
        assert scores[first] == max(scores[:n_epochs])


@pytest.mark.parametrize("projection", [False, True])
def test_what_an_epoch_shows_is_what_stopping_there_gives(make_classifier, projection):
    """With early stopping it was shown the epoch's weights, not the best."""
    pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9")
    X, y = make_texts(40, seed=8)
    y = np.where(np.random.RandomState(8).rand(40) < 0.3, y[::-1], y)  # noisy
    clf = make_classifier(
        **EARLY,
        projection=projection,
        max_epochs=7,
        n_iter_no_change=7,
        random_state=8,
    )
    snapshots = Snapshots()
    history = clf.set_callbacks(snapshots).fit(X, y).history_
    scores = [epoch["validation_score"] for epoch in history]
    assert scores[-1] < max(scores), "the last epoch is the best: this says nothing"
    for n_epochs, shown in enumerate(snapshots.models, start=1):
        stopped = clone(clf).set_callbacks(Watcher(stop_after=n_epochs)).fit(X, y)
        found = pickle.loads(shown)
        assert found.prototypes_.texts == stopped.prototypes_.texts
        shown_weights = weights_of(found)
        for name, weights in weights_of(stopped).items():
            assert torch.equal(shown_weights[name], weights), name


def test_weights_have_the_mean_one_over_what_is_trained_on(
    make_classifier, texts, monkeypatch
):
    """They had it over the held-out texts too."""
    X, y = texts
    seen = []
    monkeypatch.setattr(
        "skprotolm._training.fit.TrainingSet",
        lambda *parts: seen.append(parts) or TrainingSet(*parts),
    )
    weights = np.random.RandomState(0).uniform(0.1, 5, len(X))
    make_classifier(**EARLY).fit(X, y, sample_weight=weights)
    [(_, _, trained, _)] = seen
    assert len(trained) < len(X)
    assert float(trained.mean()) == pytest.approx(1)


def test_early_stopping_gives_up(make_classifier, texts):
    rates = {"learning_rate": 3e-3, "head_learning_rate": 3e-3}
    clf = make_classifier(
        **EARLY | rates, max_epochs=40, n_iter_no_change=2, random_state=3
    ).fit(*texts)
    scores = [epoch["validation_score"] for epoch in clf.history_]
    best = int(np.argmax(scores))
    assert best > 1, "nothing was learned after the first epochs: this says nothing"
    assert clf.n_iter_ == (1 + best) + 2


@pytest.mark.parametrize("patience", [1, 3])
def test_early_stopping_waits_for_as_many_epochs_as_it_is_told(
    make_classifier, texts, patience
):
    still = {"learning_rate": 1e-30, "head_learning_rate": 1e-30}
    clf = make_classifier(
        **{**EARLY, **still}, max_epochs=9, n_iter_no_change=patience
    ).fit(*texts)
    assert clf.n_iter_ == patience
    assert clf.prototypes_.projected.all()


def test_early_stopping_is_never_worse_than_the_start(make_classifier, texts):
    """A fit that only does harm gives back the weights that it began with."""
    X, y = texts
    harm = {"learning_rate": 10.0, "head_learning_rate": 10.0, "max_epochs": 2}
    clf = make_classifier(**{**EARLY, **harm}, projection=False, random_state=1)
    start = make_classifier(
        **{**EARLY, "learning_rate": 1e-30, "head_learning_rate": 1e-30},
        projection=False,
        max_epochs=1,
        random_state=1,
    ).fit(X, y)
    clf.fit(X, y)
    assert (
        max(e["validation_score"] for e in clf.history_)
        < (start.history_[0]["validation_score"])
    ), "the harm was none, so this test says nothing"
    np.testing.assert_allclose(clf.predict_proba(X), start.predict_proba(X), atol=1e-6)


def test_a_class_of_one_text_stays_in_training(make_classifier, texts):
    X, y = [*texts[0], "a warm day with no end"], [*texts[1], "rare"]
    clf = make_classifier(**EARLY).fit(X, y)
    assert clf.classes_.tolist() == ["neg", "pos", "rare"]
    assert [p.train_index for p in clf.prototypes_ if p.label == "rare"] == [48]


@pytest.mark.parametrize("seed", range(6))
def test_a_class_s_last_text_of_its_own_stays_in_training(make_classifier, seed):
    """It was held out, and the class was said to have none."""
    X = ["shared", "own a", "shared", "b1", "b2", "b3"]
    clf = make_classifier(early_stopping=True, max_epochs=1, random_state=seed)
    with pytest.warns(FewerPrototypesWarning):
        clf.fit(X, ["a", "a", "b", "b", "b", "b"])
    assert [p.text for p in clf.prototypes_ if p.label == "a"] == ["own a"]


def test_nothing_to_hold_out_is_an_error(make_classifier):
    with pytest.raises(ValueError, match="early_stopping=True needs"):
        make_classifier(**EARLY).fit(["good", "bad"], [1, 0])
