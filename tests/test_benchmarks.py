"""Benchmarks reach into the package, so they break when it changes: they still run."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_one_training_gives_texts_and_learned_vectors(load, make_classifier, texts):
    """The arguments of what it replaces had changed, and no run of it ended."""
    X, y = texts
    clf, learned = make_classifier(), make_classifier(projection=False)
    with load("accuracy").learned_too(learned):
        clf.fit(X, y)
    for found in (clf, learned):
        alone = make_classifier(projection=found.projection).fit(X, y)
        np.testing.assert_array_equal(found.predict_proba(X), alone.predict_proba(X))


def test_every_variant_of_the_ablation_fits(load, make_classifier, texts, monkeypatch):
    """A name that a variant replaces may be gone."""
    X, y = texts
    ablation, tasks = load("ablation"), load("tasks")

    def tiny(random_state: int, **parameters: Any) -> Any:
        usual = {"n_prototypes": "auto", "max_epochs": 1}
        return make_classifier(random_state=random_state, **usual | parameters)

    monkeypatch.setattr(ablation, "ProtoLMClassifier", tiny)
    task, said = tasks.Task(X, y, X, y), {}
    for name, variant in ablation.VARIANTS.items():
        said[name] = variant.fit(task, 0).predict_proba(X)
    usual = said.pop(ablation.USUAL)
    assert all(np.isfinite(p).all() for p in said.values())
    assert not any(np.array_equal(p, usual) for p in said.values())


def test_the_sign_of_the_published_code_is_put_back(load, make_classifier, texts):
    published = load("published")
    X, y = texts
    clf = make_classifier(formulation="proto-lm", max_epochs=1)
    usual = clf.fit(X, y).predict_proba(X)
    with published.published_sign(True):
        other = clf.fit(X, y).predict_proba(X)
    assert not np.array_equal(other, usual)
    np.testing.assert_array_equal(clf.fit(X, y).predict_proba(X), usual)


def test_a_prepared_fit_takes_an_epoch(load, make_classifier, texts):
    speed = load("speed")
    fit = speed.prepared_fit(make_classifier(), *texts)
    speed._epoch(fit)
    assert fit.trainer.n_steps_taken == fit.trainer.steps_an_epoch
