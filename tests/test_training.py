"""What training does: what it learns, and what it records."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from skprotolm import ProtoLMClassifier
from skprotolm._training.splits import smooth_labels
from skprotolm._training.trainer import encoder_rate
from tests.conftest import make_texts

FORMULATIONS = ["mixture", "proto-lm"]


# --- What is learned.


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("projection", [True, False])
def test_a_word_that_tells_the_classes_apart_is_learned(
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


def test_pairs_are_learned_by_what_stands_between_them(make_classifier):
    """The label says whether both texts of a pair are alike."""
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


def test_the_order_of_a_pair_counts(make_classifier, texts):
    X, y = texts
    clf = make_classifier(n_prototypes=1).fit([(text, "so it was") for text in X], y)
    there = clf.predict_proba([(X[0], "so it was")])
    back = clf.predict_proba([("so it was", X[0])])
    assert not np.allclose(there, back, atol=1e-6)
    assert clf.prototypes_[0].text in [(text, "so it was") for text in X]


def test_only_the_head_is_trained_if_asked_for(make_classifier, texts, tiny_bert):
    clf = make_classifier(finetune="head", weight_decay=0.5).fit(*texts)
    found = clf._fitted.network.encoder.sentence_transformer.state_dict()
    for name, tensor in tiny_bert.state_dict().items():
        assert torch.equal(found[name], tensor), name
    assert {epoch["learning_rate"] for epoch in clf.history_} == {0.0}


def test_everything_is_trained_by_default(make_classifier, texts, tiny_bert):
    clf = make_classifier().fit(*texts)
    found = clf._fitted.network.encoder.sentence_transformer.state_dict()
    [name] = [n for n in found if n.endswith("word_embeddings.weight")]
    assert not torch.equal(found[name], tiny_bert.state_dict()[name])


def test_matrices_of_the_encoder_decay_and_nothing_else(
    make_classifier, texts, tiny_bert
):
    # The step of a rate of 1e-12 is next to none, and its decay 1e-12 · 1e10.
    clf = make_classifier(
        learning_rate=1e-12, head_learning_rate=1e-12, weight_decay=1e10, n_prototypes=1
    ).fit(*texts)
    found = clf._fitted.network.encoder.sentence_transformer.state_dict()
    for name, before in tiny_bert.state_dict().items():
        if not before.is_floating_point() or "pooler" in name:  # nobody reads it
            continue
        if before.ndim == 1:
            torch.testing.assert_close(found[name], before, rtol=1e-6, atol=1e-6)
        else:
            assert found[name].norm() < 0.97 * before.norm(), name
    attention = clf._fitted.network.attention.project.weight
    unchanged = make_classifier(
        learning_rate=1e-12, head_learning_rate=1e-12, weight_decay=0, n_prototypes=1
    ).fit(*texts)
    torch.testing.assert_close(
        attention, unchanged._fitted.network.attention.project.weight
    )


@pytest.mark.parametrize(
    ("width", "n_texts", "rate"),
    [
        (16, 5000, 1e-4),
        (384, 500, 1e-4),
        (768, 5000, 5e-5),
        (1024, 5000, 3.75e-5),
        (384, 20, 2e-5),
        (768, 125, 2.5e-5),
    ],
)
def test_wider_encoders_and_fewer_texts_have_a_smaller_rate(width, n_texts, rate):
    assert encoder_rate("auto", width, n_texts) == pytest.approx(rate)
    assert encoder_rate(0.25, width, n_texts) == 0.25


@pytest.mark.parametrize(
    ("n_texts", "share"),
    [(16, 0.0125), (128, 0.1), (372, 0.1), (436, 0.05), (500, 0.0), (9000, 0.0)],
)
def test_labels_of_few_texts_are_smoothed(n_texts, share):
    assert smooth_labels("auto", n_texts) == pytest.approx(share)
    assert smooth_labels(0.5, n_texts) == 0.5


def test_smoothed_labels_leave_a_model_less_sure(make_classifier, texts):
    X, y = texts

    def sureness(**parameters: Any) -> float:
        clf = make_classifier(max_epochs=10, **parameters).fit(X, y)
        return float(clf.predict_proba(X).max(axis=1).mean())

    sure, unsure = sureness(label_smoothing=0), sureness(label_smoothing=0.5)
    assert unsure < sure - 0.05
    usual = smooth_labels("auto", len(X))
    assert sureness() == pytest.approx(sureness(label_smoothing=usual))


def test_the_default_rate_is_the_one_that_is_trained_with(make_classifier, texts):
    assert ProtoLMClassifier().learning_rate == "auto"
    clf = make_classifier(learning_rate="auto", warmup_fraction=0.0).fit(*texts)
    expected = encoder_rate("auto", 16, len(texts[0]))
    assert clf.history_[0]["learning_rate"] == pytest.approx(expected)
    assert (clf.learning_rate, clf.learning_rate_) == ("auto", expected)
    clf.set_params(learning_rate=0.25, max_epochs=1).fit(*texts)
    assert clf.learning_rate_ == 0.25


# --- What is recorded.


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_history_holds_one_record_an_epoch(make_classifier, texts, formulation):
    given = {"max_epochs": 4, "diversity": 0.1}
    clf = make_classifier(**given, formulation=formulation).fit(*texts)
    assert clf.n_iter_ == len(clf.history_) == 4
    assert [epoch["epoch"] for epoch in clf.history_] == [1, 2, 3, 4]
    terms = {"cross_entropy", "cohesion", "separation"}
    if formulation == "mixture":
        terms |= {"coverage", "diversity", "preservation"}
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


@pytest.mark.parametrize(("pairs", "weight"), [(False, 0.4), (True, 0.2)])
def test_of_pairs_less_is_preserved(make_classifier, texts, pairs, weight):
    X, y = texts
    X = [(x, "so it was") for x in X] if pairs else X
    clf = make_classifier(preservation="auto", cohesion=0.0, separation=0.0).fit(X, y)
    assert (ProtoLMClassifier().preservation, clf.preservation) == ("auto", "auto")
    first = clf.history_[0]
    rest = first["loss"] - first["cross_entropy"]
    assert rest / first["preservation"] == pytest.approx(weight, rel=1e-3)


@pytest.mark.parametrize(
    "term", ["cohesion", "separation", "diversity", "preservation"]
)
def test_a_term_of_weight_zero_is_no_term(make_classifier, texts, term):
    clf = make_classifier(n_prototypes=1, **{"diversity": 0.1, term: 0.0}).fit(*texts)
    assert not [epoch for epoch in clf.history_ if term in epoch]


def test_rates_rise_and_fall(make_classifier, texts):
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


@pytest.mark.parametrize(
    ("n_texts", "batch_size", "n_epochs"),
    [(48, 16, 40), (48, 2, 7), (48, 1, 4), (52, 1, 3)],
)
def test_auto_makes_three_epochs_or_150_steps_but_forty_epochs_at_most(
    make_classifier, n_texts, batch_size, n_epochs
):
    clf = make_classifier(
        max_epochs="auto", batch_size=batch_size, finetune="head", n_prototypes=1
    ).fit(*make_texts(n_texts))
    assert clf.n_iter_ == n_epochs


def test_weights_that_come_frozen_stay_but_not_all(make_classifier, tiny_bert, texts):
    """If all were frozen, nothing was trained and nothing said."""
    backbone = copy.deepcopy(tiny_bert)
    backbone[0].auto_model.embeddings.requires_grad_(False)
    clf = make_classifier(backbone=backbone).fit(*texts)
    found = clf._fitted.network.encoder.sentence_transformer.state_dict()
    given = backbone.state_dict()
    moved = [name for name in given if not torch.equal(found[name], given[name])]
    assert moved
    assert not any("embeddings" in name for name in moved)
    backbone.requires_grad_(False)
    with pytest.raises(ValueError, match="requires_grad is False for all"):
        make_classifier(backbone=backbone).fit(*texts)
    make_classifier(backbone=backbone, finetune="head", max_epochs=1).fit(*texts)
