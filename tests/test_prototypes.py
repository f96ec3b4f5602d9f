"""Prototypes in a fit: how many, on which texts, and how they settle there."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skprotolm._training.formulations import FORMULATIONS as FORMULATIONS_TABLE

from skprotolm import Explanation
from skprotolm._training import fit as _fitting
from skprotolm._training.initialization import clearness, gathered
from skprotolm.exceptions import (
    DuplicatePrototypesWarning,
    FewerPrototypesWarning,
    FitInterruptedWarning,
    UnpredictedClassWarning,
)
from skprotolm.metrics import prototype_diversity
from tests.conftest import make_texts
from tests.watching import stop_at

FORMULATIONS = ["mixture", "proto-lm"]


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("projection", [True, False])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_prototypes_are_distinct_texts_of_their_class(
    make_classifier, texts, formulation, projection, early_stopping, weighted
):
    X, y = texts
    weights = (np.arange(48) % 4 > 0).astype(float) if weighted else np.ones(48)
    clf = make_classifier(
        n_prototypes=4,
        formulation=formulation,
        projection=projection,
        early_stopping=early_stopping,
        validation_fraction=0.4,
        preservation=1.0,
        learning_rate=1e-5,
    )
    clf.fit(X, y, sample_weight=weights)
    rows = [p.train_index for p in clf.prototypes_]
    assert len(set(rows)) == len(rows) == 8
    assert [p.text for p in clf.prototypes_] == [X[row] for row in rows]
    assert [p.label for p in clf.prototypes_] == y[rows].tolist()
    assert clf.prototypes_.labels.tolist() == ["neg"] * 4 + ["pos"] * 4
    assert weights[rows].all()
    assert clf.prototypes_.texts == tuple(X[row] for row in rows)
    assert clf.prototypes_.train_indices.tolist() == rows


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("max_epochs", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_projected_prototypes_are_what_the_encoder_makes_of_their_texts(
    make_classifier, texts, early_stopping, max_epochs, precision
):
    clf = make_classifier(
        n_prototypes=2,
        max_epochs=max_epochs,
        precision=precision,
        early_stopping=early_stopping,
        validation_fraction=0.4,
    ).fit(*texts)
    cosines = clf.transform(list(clf.prototypes_.texts))
    exact = 1e-5 if precision == "fp32" else 1e-3  # "bf16" predicts in bfloat16 too
    np.testing.assert_allclose(np.diag(cosines), 1, atol=exact)


def test_projected_prototypes_of_the_published_layer_are_at_no_distance(
    make_classifier, texts
):
    clf = make_classifier(formulation="proto-lm").fit(*texts)
    similarities = clf.transform(list(clf.prototypes_.texts))
    assert np.diag(similarities).min() > 1 / (1e-4 + 1e-5)


def test_without_projection_prototypes_are_learned_vectors(make_classifier, texts):
    clf = make_classifier(projection=False).fit(*texts)
    assert not clf.prototypes_.projected.any()
    cosines = np.diag(clf.transform(list(clf.prototypes_.texts)))
    assert (cosines < 1 - 1e-4).all()
    assert make_classifier().fit(*texts).prototypes_.projected.all()


TWINS = ["good food", "kind food", "bad film", "the card was lost"], [1, 1, 0, 0]


@pytest.fixture
def twins(make_classifier, tiny_bert):
    """A classifier whose frozen encoder has one vector for two words."""
    encoder = copy.deepcopy(tiny_bert)
    weights = encoder[0].auto_model.get_input_embeddings().weight
    good, kind = encoder.tokenizer.convert_tokens_to_ids(["good", "kind"])
    with torch.no_grad():
        weights[good] = weights[kind]
    settings = {"n_prototypes": 2, "max_epochs": 1, "batch_size": 4}
    return make_classifier(backbone=encoder, finetune="head", **settings)


def test_texts_that_the_encoder_cannot_tell_apart_are_warned_of(twins):
    clf = twins
    with pytest.warns(DuplicatePrototypesWarning, match="1 of 4"):
        clf.fit(*TWINS)
    assert np.linalg.norm(np.diff(clf.prototypes_.vectors[2:], axis=0)) < 1e-5


def test_a_warning_that_is_an_error_costs_nothing_that_was_learned(twins):
    """It was raised before the model was kept."""
    (X, y), clf = TWINS, twins
    with warnings.catch_warnings():
        warnings.simplefilter("error", DuplicatePrototypesWarning)
        with pytest.raises(DuplicatePrototypesWarning):
            clf.fit(X, y)
    assert clf.predict(X).shape == (4,)


@pytest.mark.parametrize("swap", [False, True])
def test_a_frame_of_texts_and_labels_is_no_frame_of_pairs(make_classifier, texts, swap):
    """It trained on the label, and scored 1.0."""
    X, y = texts
    columns = [X, y.tolist()][:: -1 if swap else 1]
    pairs = list(zip(*columns, strict=True))
    with pytest.raises(
        ValueError, match=f"Column {0 if swap else 1} of X holds the la"
    ):
        make_classifier().fit(pairs, y)


@pytest.mark.parametrize("swap", [False, True])
def test_other_names_of_the_labels_are_noticed_too(make_classifier, texts, swap):
    """With y in numbers, a column of their names scored 1.0."""
    X, y = texts
    columns = [X, np.where(y == "pos", "liked", "disliked").tolist()]
    pairs = list(zip(*columns[:: -1 if swap else 1], strict=True))
    with pytest.raises(ValueError, match="or other names of them"):
        make_classifier().fit(pairs, y)


def test_two_pairs_again_and_again_are_pairs(make_classifier):
    pairs = [("good food", "a warm day"), ("bad film", "a cold day")] * 5
    clf = make_classifier(n_prototypes=1, max_epochs=1).fit(pairs, [0, 1] * 5)
    assert len(clf.prototypes_) == 2


def test_fewer_texts_than_prototypes_are_warned_of(make_classifier, texts):
    X, y = texts
    few = [0, 2, 4, 6, 8, 1, 3]  # five of "pos", two of "neg"
    clf = make_classifier(n_prototypes=5)
    with pytest.warns(FewerPrototypesWarning, match=r"'neg' \(2\)"):
        clf.fit([X[i] for i in few], y[few])
    assert clf.prototypes_.labels.tolist() == ["neg"] * 2 + ["pos"] * 5


def test_classes_start_as_frequent_as_they_are(make_classifier, texts):
    """They started as equally likely, and rare ones were predicted too often."""
    X, y = texts
    rows = [i for i in range(len(X)) if y[i] == "pos" or i < 12]
    still = {"learning_rate": 1e-9, "head_learning_rate": 1e-9, "max_epochs": 1}
    X, y = [X[i] for i in rows], y[rows]
    weights = np.where(y == "pos", 1.0, 0.5)
    for options, share in (({}, 3 / 27), ({"class_weight": "balanced"}, 0.5 / 1.5)):
        clf = make_classifier(**still, **options, projection=False).fit(
            X, y, sample_weight=weights
        )
        bias = clf._fitted.layer.bias.numpy()
        assert bias[0] - bias[1] == pytest.approx(np.log(share / (1 - share)), abs=1e-4)


def excess_of_target(e: Explanation) -> float:
    """Return what the target's contributions sum to beyond its probability."""
    return e.contributions[e.prototype_labels == e.target].sum() - e.probability


def excess_of_all(e: Explanation) -> float:
    """Return what all contributions and the bias sum to beyond the score."""
    return e.contributions.sum() + e.base_value - e.score


@pytest.mark.parametrize(
    ("formulation", "excess"),
    [("mixture", excess_of_target), ("proto-lm", excess_of_all)],
)
def test_automatic_prototypes_stand_for_other_texts(
    make_classifier, texts, formulation, excess
):
    X, y = texts
    clf = make_classifier(
        n_prototypes="auto", formulation=formulation, max_epochs=3
    ).fit(X, y)
    prototypes = clf.prototypes_
    counts = [np.sum(prototypes.labels == label) for label in clf.classes_]
    assert all(1 <= count <= 8 for count in counts)
    assert len(set(prototypes.texts)) == len(prototypes)
    for label, count in zip(clf.classes_, counts, strict=True):
        if count > 1:
            assert prototypes.usages[prototypes.labels == label].min() > 0
    for e in clf.explain(X[:5]):
        assert excess(e) == pytest.approx(0, abs=1e-9)
    assert pickle.loads(pickle.dumps(clf)).predict(X).tolist() == (
        clf.predict(X).tolist()
    )


def test_automatic_prototypes_are_apart_in_the_end(make_classifier, texts):
    clf = make_classifier(n_prototypes="auto", cohesion=0.0, max_epochs=6)
    clf.fit(*texts)
    assert 2 < len(clf.prototypes_) < 16
    gaps = prototype_diversity(clf)
    assert gaps[~np.isnan(gaps)].min() >= 0.0999  # it was decided in bfloat16


def test_priors_of_a_class_sum_to_one_though_prototypes_went(make_classifier, texts):
    X, y = texts
    few = [0, 2, 4, 1, 3, 5]
    clf = make_classifier(n_prototypes="auto", max_epochs=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FewerPrototypesWarning)
        clf.fit([X[i] for i in few], y[few])
    prototypes = clf.prototypes_
    assert len(prototypes) < 6  # each text can not stand for another one
    for label in clf.classes_:
        priors = prototypes.priors[prototypes.labels == label]
        assert priors.sum() == pytest.approx(1)


def test_repeated_texts_serve_one_prototype(make_classifier, texts):
    X, y = texts
    few = [0] * 5 + [2, 4] + [1] * 2 + [3]
    clf = make_classifier(n_prototypes={"pos": 3, "neg": 2})
    clf.fit([X[i] for i in few], y[few])
    assert sorted(clf.prototypes_.texts) == sorted({X[i] for i in few})


def test_a_text_under_two_labels_serves_neither(make_classifier, texts):
    X, y = [*texts[0][:8], texts[0][0]], [*texts[1][:8], "neg"]
    clf = make_classifier(n_prototypes={"pos": 3, "neg": 4}).fit(X, y)
    assert X[0] not in clf.prototypes_.texts
    with pytest.raises(ValueError, match="'b' has no text of its own"):
        make_classifier().fit(["one", "two", "three", "one"], ["a", "a", "a", "b"])


def test_each_class_has_the_prototypes_that_a_dict_says(make_classifier, texts):
    clf = make_classifier(n_prototypes={"pos": 1, "neg": 3}).fit(*texts)
    assert clf.prototypes_.labels.tolist() == ["neg", "neg", "neg", "pos"]
    with pytest.raises(ValueError, match="'pos'"):
        make_classifier(n_prototypes={"neg": 3}).fit(*texts)
    more = {"neg": 3, "pos": 1, "of no text here": 2}
    again = make_classifier(n_prototypes=more).fit(*texts)
    assert again.prototypes_.texts == clf.prototypes_.texts


def test_copies_of_texts_do_not_make_classes_clear(make_classifier, monkeypatch):
    """A text's nearest neighbours were its copies, which have its label."""
    found = []

    def noted(*args: Any) -> float:
        found.append(clearness(*args))
        return found[-1]

    monkeypatch.setattr(_fitting, "clearness", noted)
    X, y = make_texts(24)
    clf = make_classifier(n_prototypes="auto", max_epochs=1)
    clf.fit(X, y)
    clf.fit(X * 3, np.tile(y, 3))
    assert found[0] == found[1]


def test_priors_of_a_class_sum_to_one(fitted):
    priors, labels = fitted.prototypes_.priors, fitted.prototypes_.labels
    for label in fitted.classes_:
        assert priors[labels == label].sum() == pytest.approx(1)
        assert (priors[labels == label] > 0).all()


# --- Prototypes settle.


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of texts by which prototypes settled, an entry each time."""
    calls: list[int] = []
    usual = FORMULATIONS_TABLE["mixture"]

    def settle(layer: Any, placement: Any, scores: Any) -> Any:
        calls.append(len(placement.vectors))
        return usual.settle(layer, placement, scores)

    told = dataclasses.replace(usual, settle=settle)
    monkeypatch.setitem(FORMULATIONS_TABLE, "mixture", told)
    return calls


@pytest.mark.parametrize(
    ("parameters", "times"),
    [({}, 1), ({"projection": False}, 0)],
)
def test_prototypes_settle_once_before_they_are_put_on_texts(
    make_classifier, texts, settled, parameters, times
):
    make_classifier(**parameters).fit(*texts)
    assert settled == times * [len(texts[0])]


def test_prototypes_of_an_interrupted_fit_settle_too(
    make_classifier, texts, settled, monkeypatch
):
    clf = make_classifier(max_epochs=3)
    stop_at(monkeypatch, 9, KeyboardInterrupt())
    with (
        pytest.warns(FitInterruptedWarning),
        pytest.raises(KeyboardInterrupt),
    ):
        clf.fit(*texts)
    assert settled == [len(texts[0])]


def test_prototypes_start_together_where_classes_are_not_clear(
    make_classifier, monkeypatch
):
    """Words of the texts say nothing of their labels, so classes are not clear."""
    spreads = []

    def gather(centres: Any, counts: Any, clear: float) -> Any:
        spreads.append(clear)
        return gathered(centres, counts, clear)

    monkeypatch.setattr("skprotolm._training.formulations.gathered", gather)
    X, y = make_texts(40)
    make_classifier(max_epochs=1).fit(X, np.random.RandomState(0).permutation(y))
    assert spreads[0] < 0.5


@pytest.mark.parametrize("n_prototypes", [2, "auto"])
def test_prototypes_on_texts_say_more_of_what_was_learned_for_being_refitted(
    make_classifier, texts, monkeypatch, n_prototypes
):
    """All training is the same, so that what differs comes of the projection alone."""
    X, y = texts
    clf = make_classifier(n_prototypes=n_prototypes)
    learned = clone(clf).set_params(projection=False).fit(X, y)
    refitted = clone(clf).fit(X, y)
    monkeypatch.setattr(_fitting, "refit", lambda *given: None)
    plain = clone(clf).fit(X, y)
    assert refitted.prototypes_.texts == plain.prototypes_.texts
    assert refitted.history_[-1]["loss"] == learned.history_[-1]["loss"]
    others = [x for x in X if x not in refitted.prototypes_.texts]
    expected = np.log(learned.predict_proba(others))
    gaps = [
        np.sum(np.exp(expected) * (expected - np.log(one.predict_proba(others))))
        for one in (refitted, plain)
    ]
    assert gaps[0] < gaps[1]


# --- Classes that are never predicted.


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_class_that_is_never_predicted_is_warned_of(make_classifier, early_stopping):
    """20 texts beside 330 of another class were silently ignored."""
    X, _ = make_texts(60)
    y = np.where(np.arange(60) < 8, "rare", "frequent")
    held_out = {"early_stopping": early_stopping, "validation_fraction": 0.4}
    clf = make_classifier(max_epochs=2, n_prototypes=1, **held_out)
    kind = "held-out text" if early_stopping else "training text that is not a .*"
    with pytest.warns(UnpredictedClassWarning, match=f"for a {kind}: 'rare'"):
        clf.fit(X, y)
    others = np.setdiff1d(np.arange(60), clf.prototypes_.train_indices)
    assert "rare" not in clf.predict([X[i] for i in others])


def test_classes_that_are_predicted_are_not_warned_of(make_classifier, texts):
    X, y = texts
    clf = make_classifier(max_epochs=6, learning_rate=5e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnpredictedClassWarning)
        clf.fit(X, y)
    assert clf.score(X, y) > 0.9
