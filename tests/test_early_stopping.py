"""Early stopping: the best weights are kept, and what is held out for them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skprotolm.exceptions import FewerPrototypesWarning
from tests.texts import make_texts
from tests.watching import Snapshots, Watcher, weights_of

EARLY = {
    "early_stopping": True,
    "validation_fraction": 0.4,
    "n_prototypes": 1,
    "learning_rate": 1e-2,
    "head_learning_rate": 1e-2,
}
NO_LEARNING = {"learning_rate": 1e-30, "head_learning_rate": 1e-30}


def noisy_texts(seed: int) -> tuple[list[str], np.ndarray]:
    """Return texts of which about 15% have the wrong label."""
    X, y = make_texts(40, seed=seed)
    return X, np.where(np.random.RandomState(seed).rand(40) < 0.3, y[::-1], y)


@pytest.fixture
def make_noisy(make_classifier, callbacks):
    """Return a maker of classifiers whose last epoch is not the best on noisy texts."""

    def make(seed: int, **parameters: Any) -> Any:
        settings = {
            "projection": False,
            "max_epochs": 7,
            "n_iter_no_change": 7,
            "random_state": seed,
        }
        return make_classifier(**{**EARLY, **settings, **parameters})

    return make


def scores_of(clf: Any) -> list[float]:
    return [epoch["validation_score"] for epoch in clf.history_]


def first_final_epoch(snapshots: Snapshots, clf: Any) -> int:
    """Return the first epoch whose model the fit returned, as all later ones do."""
    final = weights_of(clf)
    models = [weights_of(pickle.loads(model)) for model in snapshots.models]
    is_final = [
        all(torch.equal(final[name], weights[name]) for name in final)
        for weights in models
    ]
    first = is_final.index(True)
    assert all(is_final[first:])
    return first


# The best weights.


@pytest.mark.parametrize("seed", [1, 8, 9])
def test_the_best_epoch_is_kept(make_noisy, seed):
    snapshots = Snapshots()
    clf = make_noisy(seed).set_callbacks(snapshots).fit(*noisy_texts(seed))
    scores = scores_of(clf)
    assert scores[-1] < max(scores), "the test needs a last epoch that is not the best"
    assert scores[first_final_epoch(snapshots, clf)] == max(scores)


@pytest.mark.parametrize("seed", [1, 6, 8])
def test_the_best_epoch_is_kept_if_a_callback_stops_the_fit(make_noisy, seed):
    data = noisy_texts(seed)
    scores = scores_of(make_noisy(seed).set_callbacks(Watcher()).fit(*data))
    for n_epochs in (1 + int(np.argmax(scores)), 7):
        snapshots = Snapshots()
        clf = make_noisy(seed)
        clf.set_callbacks(Watcher(stop_after=n_epochs), snapshots).fit(*data)
        assert clf.n_iter_ == n_epochs
        first = first_final_epoch(snapshots, clf)
        assert scores[first] == max(scores[:n_epochs])


@pytest.mark.parametrize("projection", [False, True])
def test_the_model_of_an_epoch_equals_one_fitted_for_as_many_epochs(
    make_noisy, projection
):
    data = noisy_texts(8)
    clf, snapshots = make_noisy(8, projection=projection), Snapshots()
    scores = scores_of(clf.set_callbacks(snapshots).fit(*data))
    assert scores[-1] < max(scores), "the test needs a last epoch that is not the best"
    for n_epochs, pickled in enumerate(snapshots.models, start=1):
        stopped = clone(clf).set_callbacks(Watcher(stop_after=n_epochs)).fit(*data)
        model = pickle.loads(pickled)
        assert model.prototypes_.texts == stopped.prototypes_.texts
        weights = weights_of(model)
        for name, expected in weights_of(stopped).items():
            assert torch.equal(weights[name], expected), name


def test_a_harmful_fit_returns_the_initial_weights(make_classifier, texts):
    X, y = texts
    harmful = {"learning_rate": 10.0, "head_learning_rate": 10.0, "max_epochs": 2}
    settings = {**EARLY, "projection": False, "random_state": 1}
    clf = make_classifier(**{**settings, **harmful}).fit(X, y)
    start = make_classifier(**{**settings, **NO_LEARNING}, max_epochs=1).fit(X, y)
    assert max(scores_of(clf)) < scores_of(start)[0], "the test needs harm"
    np.testing.assert_allclose(clf.predict_proba(X), start.predict_proba(X), atol=1e-6)


# When a fit ends.


def test_a_fit_ends_two_epochs_after_the_best(make_classifier, texts):
    rates = {"learning_rate": 3e-3, "head_learning_rate": 3e-3}
    clf = make_classifier(
        **EARLY | rates, max_epochs=40, n_iter_no_change=2, random_state=3
    ).fit(*texts)
    best = int(np.argmax(scores_of(clf)))
    assert best > 1, "the test needs progress after the first epochs"
    assert clf.n_iter_ == (1 + best) + 2


@pytest.mark.parametrize("n_iter_no_change", [1, 3])
def test_a_fit_ends_after_n_iter_no_change_epochs(
    make_classifier, texts, n_iter_no_change
):
    clf = make_classifier(
        **{**EARLY, **NO_LEARNING}, max_epochs=9, n_iter_no_change=n_iter_no_change
    ).fit(*texts)
    assert clf.n_iter_ == n_iter_no_change
    assert clf.prototypes_.projected.all()


# Held-out texts.


def test_prototypes_are_no_held_out_texts(make_classifier, texts):
    X, y = texts
    settings = {**EARLY, "n_prototypes": 14, **NO_LEARNING}
    clf = make_classifier(**settings, max_epochs=1).fit(X, y)
    rows = clf.prototypes_.train_indices
    assert len(set(rows)) == 28  # all that are trained on, of 48


def test_a_class_of_one_text_stays_in_training(make_classifier, texts):
    X, y = [*texts[0], "a warm day with no end"], [*texts[1], "rare"]
    clf = make_classifier(**EARLY).fit(X, y)
    assert clf.classes_.tolist() == ["neg", "pos", "rare"]
    assert [p.train_index for p in clf.prototypes_ if p.label == "rare"] == [48]


@pytest.mark.parametrize("seed", range(6))
def test_the_last_candidate_of_a_class_stays_in_training(make_classifier, seed):
    X = ["shared", "own a", "shared", "b1", "b2", "b3"]
    clf = make_classifier(early_stopping=True, max_epochs=1, random_state=seed)
    with pytest.warns(FewerPrototypesWarning):
        clf.fit(X, ["a", "a", "b", "b", "b", "b"])
    assert [p.text for p in clf.prototypes_ if p.label == "a"] == ["own a"]


def test_classes_of_one_text_each_are_an_error(make_classifier):
    with pytest.raises(ValueError, match="early_stopping=True needs"):
        make_classifier(**EARLY).fit(["good", "bad"], [1, 0])


def test_modules_may_have_a_state_that_is_no_tensor(make_classifier, tiny_bert, texts):
    """The copy of the best weights took it for one."""

    class Counting(torch.nn.LayerNorm):
        n_calls = 0

        def get_extra_state(self) -> Any:
            return {"n_calls": self.n_calls}

        def set_extra_state(self, state: Any) -> None:
            self.n_calls = state["n_calls"]

    backbone = copy.deepcopy(tiny_bert)
    backbone[0].auto_model.embeddings.LayerNorm = Counting(16)
    clf = make_classifier(**EARLY, backbone=backbone).fit(*texts)
    assert len(clf.history_) == clf.n_iter_ > 0
