"""Interrupted and failed fits: what was learned is kept, what was there is not lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from skprotolm._training import fit as _fitting
from skprotolm.exceptions import (
    FitInterruptedWarning,
)
from tests.watching import stop_at

FORMULATIONS = ["mixture", "proto-lm"]


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("verbose", [0, 1])
@pytest.mark.parametrize(("step", "n_whole"), [(3, 0), (9, 1), (15, 2)])
def test_an_interrupted_fit_keeps_what_it_learned(
    make_classifier, texts, monkeypatch, formulation, verbose, step, n_whole
):
    """Nothing was kept without a progress bar, whose counter then stood still."""
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
    if formulation == "mixture":
        cosines = clf.transform(list(clf.prototypes_.texts))
        np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-5)


def test_an_interruption_before_the_first_step_changes_nothing(
    make_classifier, texts, monkeypatch
):
    X, y = texts
    clf = make_classifier().fit(X, y)
    before, expected = dict(vars(clf)), clf.predict_proba(X)
    stop_at(monkeypatch, 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):  # and no FitInterruptedWarning
        clf.fit(X[:20], y[:20])
    assert vars(clf) == before
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize(
    ("place", "projection"),
    [
        ("survey", True),
        ("survey", False),
        ("assign", True),
        ("assign", False),
        ("worth_keeping", True),
        ("refit", True),
        ("_coincident_in", True),  # when all is done but the warnings
    ],
)
def test_an_interruption_after_the_last_step_loses_nothing(
    make_classifier, texts, monkeypatch, formulation, place, projection
):
    """All training was lost when Ctrl-C came while prototypes were put on texts."""
    if (place, formulation) == ("refit", "proto-lm"):
        pytest.skip("nothing is refitted")
    X, y = texts
    clf = make_classifier(
        formulation=formulation,
        n_prototypes="auto",
        max_epochs=1,
        projection=projection,
    )
    whole = clone(clf).fit(X, y)
    original, calls = getattr(_fitting, place), []

    def interrupted(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(_fitting, place, interrupted)
    with pytest.warns(FitInterruptedWarning), pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), whole.predict_proba(X))
    assert clf.prototypes_.texts == whole.prototypes_.texts


HARM = [
    {"learning_rate": 1e30, "head_learning_rate": 1e-3},
    {"learning_rate": 1e-3, "head_learning_rate": 1e30},
]


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("projection", [True, False])
@pytest.mark.parametrize(
    ("batch_size", "max_epochs"),
    [(8, 2), (64, 2), (64, 1)],
    ids=["in the middle", "between epochs", "in the last step"],
)
@pytest.mark.parametrize("rates", HARM, ids=["encoder", "head"])
def test_a_fit_that_diverges_says_so_and_changes_nothing(
    make_classifier, texts, formulation, projection, batch_size, max_epochs, rates
):
    """In an epoch's last step it went unseen: NaN for predictions, or scipy's error.

    Where the head alone had overflowed, its scores did, from finite vectors.
    """
    if formulation == "proto-lm" and rates is HARM[1]:
        pytest.skip("from a prototype that is far away nothing overflows")
    X, y = texts
    clf = make_classifier().fit(X, y)
    expected = clf.predict_proba(X)
    clf.set_params(
        **rates,
        n_prototypes=2,
        formulation=formulation,
        projection=projection,
        batch_size=batch_size,
        max_epochs=max_epochs,
    )
    with pytest.raises(ValueError, match=r"diverged.* learning_rate"):
        clf.fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
