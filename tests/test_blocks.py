"""Texts are compared with many prototypes in blocks, and explanations stay small."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest

from skprotolm import ProtoLMClassifier
from skprotolm._network import blocks
from skprotolm._network.blocks import row_blocks
from skprotolm.metrics import (
    explanation_compactness,
    prototype_diversity,
    prototype_purity,
)
from tests.helpers import FORMULATIONS
from tests.texts import make_texts


@pytest.mark.parametrize(
    ("n_rows", "n_columns", "sizes"),
    [(5, 10, [5]), (5, 20, [2, 2, 1]), (3, 100, [1, 1, 1]), (2, 0, [2])],
)
def test_a_block_has_as_many_rows_as_fit(monkeypatch, n_rows, n_columns, sizes):
    monkeypatch.setattr(blocks, "MAX_PAIRS", 50)
    parts = list(row_blocks(n_rows, n_columns))
    assert [len(range(n_rows)[part]) for part in parts] == sizes
    assert [i for part in parts for i in range(n_rows)[part]] == list(range(n_rows))


def test_a_batch_of_few_prototypes_is_one_block():
    """So that the predictions of small models are those of whole batches."""
    assert list(row_blocks(2000, 2000)) == [slice(0, 2000)]


@pytest.fixture(params=FORMULATIONS)
def clf(request, make_classifier, texts) -> ProtoLMClassifier:
    return make_classifier(max_epochs=1, formulation=request.param).fit(*texts)


def results_of(clf: ProtoLMClassifier, X: list[str], y: Any) -> dict[str, Any]:
    explanations = clf.explain(X, top_k=2)
    return {
        "probabilities": clf.predict_proba(X),
        "similarities": clf.transform(X),
        "novelty": clf.novelty_score(X),
        "nearest": clf.prototypes_.nearest(X, k=3).similarities,
        "bases": [e.base_value for e in explanations],
        "contributions": [e.contributions for e in explanations],
        "compactness": explanation_compactness(clf, X),
        "diversity": prototype_diversity(clf),
        "purity": prototype_purity(clf, X, y),
    }


def test_results_by_blocks_are_those_of_whole_batches(clf, monkeypatch):
    X, y = make_texts(20, seed=2)
    expected = results_of(clf, X, y)
    monkeypatch.setattr(blocks, "MAX_PAIRS", 3 * len(clf.prototypes_))
    for name, values in results_of(clf, X, y).items():
        np.testing.assert_allclose(
            values, expected[name], rtol=1e-9, atol=1e-12, err_msg=name
        )


def test_a_fit_by_blocks_is_that_of_whole_arrays(make_classifier, texts, monkeypatch):
    X, y = texts
    expected = make_classifier().fit(X[:-8], y[:-8]).partial_fit(X[-8:], y[-8:])
    monkeypatch.setattr(blocks, "MAX_PAIRS", 40)
    clf = make_classifier().fit(X[:-8], y[:-8]).partial_fit(X[-8:], y[-8:])
    assert clf.prototypes_.texts == expected.prototypes_.texts
    np.testing.assert_array_equal(
        clf.prototypes_.purities, expected.prototypes_.purities
    )
    limits = [model.explain(X[:1])[0].novelty_limit for model in (clf, expected)]
    assert limits[0] == pytest.approx(limits[1], abs=1e-5)
    np.testing.assert_allclose(
        clf.predict_proba(X), expected.predict_proba(X), atol=1e-5
    )


def test_explanations_do_not_hold_arrays_of_all_prototypes(make_classifier, texts):
    """Those of 100,000 prototypes had 1.6 MB per text."""
    clf = make_classifier(max_epochs=1).fit(*texts)
    words = [f"a day {i}" for i in range(3000)]
    clf.add_prototypes(words, [clf.classes_[i % 2] for i in range(3000)])
    X, _ = make_texts(30, seed=2)
    clf.explain(X, top_k=2)
    tracemalloc.start()
    explanations = clf.explain(X, top_k=2)
    listed = [e.prototypes for e in explanations]
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [len(prototypes) for prototypes in listed] == [2] * len(X)
    assert held < len(X) * len(clf.prototypes_) * 8 / 2


def test_explanations_can_be_read_in_any_order(clf):
    X, _ = make_texts(6, seed=2)
    explanations = clf.explain(X)
    expected = [e.contributions.copy() for e in explanations]
    for row in (3, 0, 5, 3):
        np.testing.assert_array_equal(explanations[row].contributions, expected[row])
    np.testing.assert_allclose(
        [e.similarities for e in explanations], clf.transform(X), rtol=1e-12
    )


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_a_copy_of_an_explanation_has_its_arrays(clf, copied):
    e = clf.explain(["the food was good"], top_k=2)[0]
    other = copied(e)
    clf.remove_prototypes([0])
    np.testing.assert_array_equal(other.contributions, e.contributions)
    np.testing.assert_array_equal(other.similarities, e.similarities)
    other.contributions[:] = 0
    assert e.contributions.any()


def test_added_prototypes_of_several_classes_get_the_mean_priors(clf):
    """Each was computed apart, in time that rose with the square of their number."""
    before = clf.prototypes_
    labels = [clf.classes_[i] for i in (1, 0, 1, 1)]
    clf.add_prototypes([f"day {i}" for i in range(4)], labels)
    after = clf.prototypes_
    weights = after.weights if after.priors is None else after.priors[None]
    own = before.weights if before.priors is None else before.priors[None]
    for j, label in enumerate(labels, start=len(before)):
        mean = own[:, before.labels == label].mean(axis=1)
        np.testing.assert_allclose(weights[:, j], mean, rtol=1e-6)


def test_no_more_texts_than_a_block_are_compared_at_once(clf, monkeypatch):
    seen = []
    layer = clf._fitted.layer
    handle = layer.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    monkeypatch.setattr(blocks, "MAX_PAIRS", 2 * len(clf.prototypes_))
    clf.predict(make_texts(20, seed=2)[0])
    handle.remove()
    assert max(seen) == 2
    assert sum(seen) == 20


def test_arrays_of_explanations_cannot_be_written(clf):
    """A write was lost once the arrays of another text were read."""
    [e] = clf.explain(["good food"])
    for array in (e.contributions, e.similarities):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9.0
