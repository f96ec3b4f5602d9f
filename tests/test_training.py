"""Training through the estimator: what is learned, and what is recorded."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from skprotolm import ProtoLMClassifier
from tests.helpers import FORMULATIONS, make_trainer
from tests.texts import make_texts


def encoder_state(clf: ProtoLMClassifier) -> dict[str, torch.Tensor]:
    return clf._fitted.network.encoder.sentence_transformer.state_dict()


# What is learned.


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("projection", [True, False])
def test_texts_that_differ_in_one_word_are_learned(
    make_classifier, texts, formulation, projection
):
    clf = make_classifier(
        formulation=formulation,
        projection=projection,
        n_prototypes=2,
        max_epochs=8,
        learning_rate=3e-3,
    ).fit(*texts)
    assert clf.score(*make_texts(100, seed=1)) > 0.9


def test_a_relation_between_the_texts_of_a_pair_is_learned(make_classifier):
    """The label is whether both texts have the same word."""
    rng = np.random.RandomState(0)
    first, second = rng.choice(["good", "bad"], (2, 160))
    pairs = [
        (f"the film was {a}", f"a {b} day") for a, b in zip(first, second, strict=True)
    ]
    clf = make_classifier(
        n_prototypes=1, max_epochs=30, batch_size=32, learning_rate=1e-2
    )
    clf.fit(pairs, first == second)
    assert clf.score(pairs, first == second) > 0.9


def test_the_order_of_a_pair_matters(make_classifier, texts):
    X, y = texts
    pairs = [(text, "so it was") for text in X]
    clf = make_classifier(n_prototypes=1).fit(pairs, y)
    swapped = clf.predict_proba([("so it was", X[0])])
    assert not np.allclose(clf.predict_proba(pairs[:1]), swapped, atol=1e-6)
    assert clf.prototypes_[0].text in pairs


def test_only_the_head_is_trained_if_requested(make_classifier, texts, tiny_bert):
    clf = make_classifier(finetune="head", weight_decay=0.5).fit(*texts)
    learned = encoder_state(clf)
    for name, tensor in tiny_bert.state_dict().items():
        assert torch.equal(learned[name], tensor), name
    assert {epoch["learning_rate"] for epoch in clf.history_} == {0.0}


def test_all_weights_are_trained_by_default(make_classifier, texts, tiny_bert):
    learned = encoder_state(make_classifier().fit(*texts))
    for name, tensor in tiny_bert.state_dict().items():
        if tensor.is_floating_point() and "pooler" not in name:  # which is not used
            assert not torch.equal(learned[name], tensor), name


@pytest.fixture
def decayed(make_classifier, texts):
    """Return a maker of fits whose weights move by weight decay only."""

    def fit(weight_decay: float) -> ProtoLMClassifier:
        return make_classifier(
            learning_rate=1e-12,
            head_learning_rate=1e-12,
            weight_decay=weight_decay,
            n_prototypes=1,
        ).fit(*texts)

    return fit


def test_only_matrices_of_the_encoder_decay(decayed, tiny_bert):
    # The decay per step is 1e-12 · 1e10.
    clf = decayed(1e10)
    learned = encoder_state(clf)
    floats = {k: v for k, v in tiny_bert.state_dict().items() if v.is_floating_point()}
    used = {name: v for name, v in floats.items() if "pooler" not in name}
    for name, before in used.items():
        if before.ndim > 1:
            assert learned[name].norm() < 0.97 * before.norm(), name
        else:
            torch.testing.assert_close(learned[name], before, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        clf._fitted.network.attention.project.weight,
        decayed(0)._fitted.network.attention.project.weight,
    )


def test_frozen_weights_of_the_backbone_stay_frozen(make_classifier, tiny_bert, texts):
    backbone = copy.deepcopy(tiny_bert)
    backbone[0].auto_model.embeddings.requires_grad_(False)
    learned = encoder_state(make_classifier(backbone=backbone).fit(*texts))
    before = backbone.state_dict()
    moved = [name for name in before if not torch.equal(learned[name], before[name])]
    assert moved
    assert not any("embeddings" in name for name in moved)


def test_a_frozen_backbone_can_only_train_the_head(make_classifier, tiny_bert, texts):
    backbone = copy.deepcopy(tiny_bert).requires_grad_(False)
    with pytest.raises(ValueError, match="requires_grad is False for all"):
        make_classifier(backbone=backbone).fit(*texts)
    clf = make_classifier(backbone=backbone, finetune="head", max_epochs=1).fit(*texts)
    assert clf.n_iter_ == 1


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_labels_are_smoothed_by_the_automatic_amount(
    make_classifier, texts, formulation
):
    X, y = texts
    probabilities = [
        make_classifier(formulation=formulation, **parameters)
        .fit(X, y)
        .predict_proba(X)
        for parameters in ({}, {"label_smoothing": 0.1 * len(X) / 128})
    ]
    np.testing.assert_array_equal(*probabilities)


def test_label_smoothing_lowers_confidence(make_classifier, texts):
    X, y = texts
    confidences = [
        make_classifier(max_epochs=10, label_smoothing=smoothing)
        .fit(X, y)
        .predict_proba(X)
        .max(axis=1)
        .mean()
        for smoothing in (0, 0.5)
    ]
    assert confidences[1] < confidences[0] - 0.05


# What is recorded.


def test_the_automatic_learning_rate_is_used_and_recorded(make_classifier, texts):
    clf = make_classifier(learning_rate="auto", warmup_fraction=0.0).fit(*texts)
    expected = 1e-4 * math.sqrt(len(texts[0]) / 500)
    assert clf.history_[0]["learning_rate"] == pytest.approx(expected)
    assert clf.learning_rate == "auto"
    assert clf.learning_rate_ == pytest.approx(expected)
    clf.set_params(learning_rate=0.25, max_epochs=1).fit(*texts)
    assert clf.learning_rate_ == 0.25


@pytest.mark.parametrize(
    ("formulation", "terms"),
    [("mixture", {"coverage", "diversity", "preservation"}), ("proto-lm", set())],
)
def test_the_history_has_one_record_per_epoch(
    make_classifier, texts, formulation, terms
):
    clf = make_classifier(max_epochs=4, diversity=0.1, formulation=formulation)
    clf.fit(*texts)
    assert clf.n_iter_ == len(clf.history_) == 4
    assert [epoch["epoch"] for epoch in clf.history_] == [1, 2, 3, 4]
    terms = terms | {"cross_entropy", "cohesion", "separation"}
    others = {"epoch", "loss", "learning_rate", "head_learning_rate"}
    for epoch in clf.history_:
        assert epoch.keys() == terms | others | {"texts_per_second"}
        assert all(math.isfinite(value) for value in epoch.values())
        assert all(type(value) in (int, float) for value in epoch.values())
    assert clf.history_[-1]["loss"] < clf.history_[0]["loss"]


def test_the_loss_is_the_weighted_sum_of_its_terms(make_classifier, texts):
    weights = {"cohesion": 0.15, "separation": 0.05, "diversity": 0.3}
    clf = make_classifier(**weights, preservation=0.4).fit(*texts)
    parts = {**weights, "coverage": 0.15, "preservation": 0.4, "cross_entropy": 0.8}
    for epoch in clf.history_:
        expected = sum(w * epoch[name] for name, w in parts.items())
        assert epoch["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("is_paired", "weight"), [(False, 0.4), (True, 0.2)])
def test_the_automatic_preservation_is_smaller_for_pairs(
    make_classifier, texts, is_paired, weight
):
    X, y = texts
    X = [(x, "so it was") for x in X] if is_paired else X
    clf = make_classifier(preservation="auto", cohesion=0.0, separation=0.0).fit(X, y)
    assert clf.preservation == "auto"
    first = clf.history_[0]
    difference = first["loss"] - first["cross_entropy"]
    assert difference / first["preservation"] == pytest.approx(weight, rel=1e-3)


@pytest.mark.parametrize(
    "term", ["cohesion", "separation", "diversity", "preservation"]
)
def test_a_term_of_weight_0_is_not_recorded(make_classifier, texts, term):
    parameters: dict[str, Any] = {"n_prototypes": 1, "diversity": 0.1}
    all_terms = make_classifier(**parameters).fit(*texts).history_[0]
    assert term in all_terms
    clf = make_classifier(**{**parameters, term: 0.0}).fit(*texts)
    assert not [epoch for epoch in clf.history_ if term in epoch]


def test_recorded_rates_warm_up_and_decay(make_classifier, texts):
    clf = make_classifier(
        max_epochs=4,  # of 6 steps
        warmup_fraction=0.5,
        learning_rate=1e-3,
        head_learning_rate=1e-2,
        n_prototypes=1,
    ).fit(*texts)
    factors = [1 / 12, 7 / 12, 1, 0.5]
    rates = [epoch["learning_rate"] for epoch in clf.history_]
    np.testing.assert_allclose(rates, np.multiply(1e-3, factors))
    rates = [epoch["head_learning_rate"] for epoch in clf.history_]
    np.testing.assert_allclose(rates, np.multiply(1e-2, factors))


def test_the_automatic_number_of_epochs_is_used(make_classifier):
    clf = make_classifier(
        max_epochs="auto", batch_size=2, finetune="head", n_prototypes=1
    ).fit(*make_texts(48))
    assert clf.n_iter_ == 7


# Clusters before training.


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [24, 24]),
        ({"projection": False}, [24, 24]),
        ({"formulation": "proto-lm"}, []),
    ],
    ids=["projected", "learned", "proto-lm"],
)
def test_each_class_is_clustered_at_the_start(
    make_classifier, texts, monkeypatch, parameters, expected
):
    clustered: list[int] = []  # texts per call of k-means
    original = KMeans.fit

    def fit(self: KMeans, X: Any, *args: Any, **kwargs: Any) -> Any:
        clustered.append(len(X))
        return original(self, X, *args, **kwargs)

    monkeypatch.setattr(KMeans, "fit", fit)
    make_classifier(**parameters).fit(*texts)
    assert clustered == expected


def test_copies_of_texts_do_not_change_the_label_agreement(make_classifier):
    """They are nearest neighbors that always share the label."""
    X, y = make_texts(24)
    clf = make_classifier(n_prototypes="auto")
    once, thrice = (make_trainer(clf, X * n, np.tile(y, n)).config for n in (1, 3))
    assert once.spread == thrice.spread > 0.1
    assert once.prototype_counts == thrice.prototype_counts


def test_clusters_shrink_where_texts_do_not_show_the_label(make_classifier):
    X, y = make_texts(40)
    y = np.random.RandomState(0).permutation(y)
    assert make_trainer(make_classifier(), X, y).config.spread < 0.5
