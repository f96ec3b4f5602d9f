"""Interrupted and failed fits: what was learned is kept, and earlier fits too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skprotolm.exceptions import FitInterruptedWarning
from tests.helpers import FORMULATIONS, Calls
from tests.watching import stop_at


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("verbose", [0, 1])
@pytest.mark.parametrize(("step", "n_whole"), [(3, 0), (9, 1), (15, 2)])
def test_an_interrupted_fit_keeps_what_was_learned(
    make_classifier, texts, monkeypatch, formulation, verbose, step, n_whole
):
    X, y = texts
    clf = make_classifier(
        formulation=formulation, n_prototypes=2, max_epochs=3, verbose=verbose
    )
    stop_at(monkeypatch, step, KeyboardInterrupt())
    with (
        pytest.warns(FitInterruptedWarning, match=f"{n_whole} of 3 whole epochs"),
        pytest.raises(KeyboardInterrupt),
    ):
        clf.fit(X, y)
    assert clf.n_iter_ == len(clf.history_) == n_whole
    assert np.isfinite(clf.predict_proba(X)).all()
    assert clf.explain(X[:1])[0].text == X[0]
    rows = [p.train_index for p in clf.prototypes_]
    assert clf.prototypes_.labels.tolist() == y[rows].tolist()
    # Every prototype has the vector of its text.
    similarities = clf.transform(list(clf.prototypes_.texts))
    itself = np.diag(similarities)
    np.testing.assert_allclose(itself, similarities.max(axis=1), rtol=1e-5)
    assert (clf.novelty_score(list(clf.prototypes_.texts)) < 0.1).all()


def test_an_interruption_before_the_first_step_changes_nothing(
    make_classifier, texts, monkeypatch
):
    X, y = texts
    clf = make_classifier().fit(X, y)
    before, expected = dict(vars(clf)), clf.predict_proba(X)
    stop_at(monkeypatch, 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):  # without a FitInterruptedWarning
        clf.fit(X[:20], y[:20])
    assert vars(clf) == before
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


# Functions of other libraries that a fit calls after the last step, by its stages.
ASSIGNMENT = (np, "argpartition", 0)
PURITY = (np, "argpartition", -1)
COINCIDENCE = (np, "einsum", -1)
CASES = {
    "mixture, choice": ({}, np, "argsort", 0),
    "mixture, metric": ({}, np.linalg, "cholesky", 0),
    "mixture, pruning": ({}, np, "einsum", 0),
    "mixture, sharpness": ({}, torch.special, "entr", 0),
    "mixture, recalibration": ({}, torch.optim.LBFGS, "step", 0),
    "mixture, purity": ({}, *PURITY),
    "mixture, coincidence": ({}, *COINCIDENCE),
    "mixture, learned, assignment": ({"projection": False}, *ASSIGNMENT),
    "mixture, learned, usage": ({"projection": False}, np, "bincount", 0),
    "mixture, learned, coincidence": ({"projection": False}, *COINCIDENCE),
    "proto-lm, assignment": ({"formulation": "proto-lm"}, *ASSIGNMENT),
    "proto-lm, purity": ({"formulation": "proto-lm"}, *PURITY),
    "proto-lm, learned, usage": (
        {"formulation": "proto-lm", "projection": False},
        np,
        "bincount",
        0,
    ),
    "proto-lm, coincidence": ({"formulation": "proto-lm"}, *COINCIDENCE),
}


@pytest.mark.parametrize(
    ("parameters", "library", "function", "position"), CASES.values(), ids=CASES
)
def test_an_interruption_after_the_last_step_loses_nothing(
    make_classifier, texts, monkeypatch, parameters, library, function, position
):
    X, y = texts
    clf = make_classifier(n_prototypes="auto", max_epochs=1, **parameters)
    calls = Calls(monkeypatch, library, function)
    whole = clone(clf).fit(X, y)
    calls.interrupt_after_training(1 + position % calls.count)
    with pytest.warns(FitInterruptedWarning), pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), whole.predict_proba(X))
    assert clf.prototypes_.texts == whole.prototypes_.texts


ENCODER = {"learning_rate": 1e30, "head_learning_rate": 1e-3}
HEAD = {"learning_rate": 1e-3, "head_learning_rate": 1e30}


@pytest.mark.parametrize(
    ("formulation", "rates"),
    # Far from a prototype, the outputs of proto-lm do not overflow.
    [("mixture", ENCODER), ("mixture", HEAD), ("proto-lm", ENCODER)],
    ids=["mixture, encoder", "mixture, head", "proto-lm, encoder"],
)
@pytest.mark.parametrize("projection", [True, False])
@pytest.mark.parametrize(
    ("batch_size", "max_epochs"),
    [(8, 2), (64, 2), (64, 1)],
    ids=["within an epoch", "between epochs", "in the last step"],
)
def test_a_diverging_fit_is_an_error_and_changes_nothing(
    make_classifier, texts, formulation, projection, batch_size, max_epochs, rates
):
    X, y = texts
    clf = make_classifier().fit(X, y)
    expected = clf.predict_proba(X)
    parameters: dict[str, Any] = {
        **rates,
        "n_prototypes": 2,
        "formulation": formulation,
        "projection": projection,
        "batch_size": batch_size,
        "max_epochs": max_epochs,
    }
    clf.set_params(**parameters)
    with pytest.raises(ValueError, match=r"diverged.* learning_rate"):
        clf.fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
