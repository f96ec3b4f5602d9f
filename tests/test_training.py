"""What training does: what it learns, keeps, records, and how it is stopped."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skprotolm import ProtoLMClassifier, _fitting
from skprotolm._formulations import FORMULATIONS as FORMULATIONS_TABLE
from skprotolm._initialization import clearness, gathered
from skprotolm._training import TrainingSet, encoder_rate
from skprotolm.exceptions import (
    DuplicatePrototypesWarning,
    FewerPrototypesWarning,
    FitInterruptedWarning,
)
from skprotolm.metrics import prototype_diversity
from tests.conftest import make_texts

# A tiny random encoder gives many texts nearly the same vector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::skprotolm.exceptions.DuplicatePrototypesWarning"
)

FORMULATIONS = ["mixture", "proto-lm"]


def weights_of(clf: Any) -> dict[str, torch.Tensor]:
    return clf._state.model.state_dict()


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
    found = clf._state.model.encoder.sentence_transformer.state_dict()
    for name, tensor in tiny_bert.state_dict().items():
        assert torch.equal(found[name], tensor), name
    assert {epoch["learning_rate"] for epoch in clf.history_} == {0.0}


def test_everything_is_trained_by_default(make_classifier, texts, tiny_bert):
    clf = make_classifier().fit(*texts)
    found = clf._state.model.encoder.sentence_transformer.state_dict()
    [name] = [n for n in found if n.endswith("word_embeddings.weight")]
    assert not torch.equal(found[name], tiny_bert.state_dict()[name])


def test_matrices_of_the_encoder_decay_and_nothing_else(
    make_classifier, texts, tiny_bert
):
    # The step of a rate of 1e-12 is next to none, and its decay 1e-12 · 1e10.
    clf = make_classifier(
        learning_rate=1e-12, head_learning_rate=1e-12, weight_decay=1e10, n_prototypes=1
    ).fit(*texts)
    found = clf._state.model.encoder.sentence_transformer.state_dict()
    for name, before in tiny_bert.state_dict().items():
        if not before.is_floating_point() or "pooler" in name:  # nobody reads it
            continue
        if before.ndim == 1:
            torch.testing.assert_close(found[name], before, rtol=1e-6, atol=1e-6)
        else:
            assert found[name].norm() < 0.97 * before.norm(), name
    attention = clf._state.model.head.attention.project.weight
    unchanged = make_classifier(
        learning_rate=1e-12, head_learning_rate=1e-12, weight_decay=0, n_prototypes=1
    ).fit(*texts)
    torch.testing.assert_close(
        attention, unchanged._state.model.head.attention.project.weight
    )


@pytest.mark.parametrize(
    ("width", "n_texts", "rate"),
    [
        (16, 5000, 1e-4),
        (384, 128, 1e-4),
        (768, 5000, 5e-5),
        (1024, 5000, 3.75e-5),
        (384, 16, 1.25e-5),
        (768, 64, 2.5e-5),
    ],
)
def test_wider_encoders_and_fewer_texts_have_a_smaller_rate(width, n_texts, rate):
    assert encoder_rate("auto", width, n_texts) == pytest.approx(rate)
    assert encoder_rate(0.25, width, n_texts) == 0.25


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
    found = clf._state.model.encoder.sentence_transformer.state_dict()
    given = backbone.state_dict()
    moved = [name for name in given if not torch.equal(found[name], given[name])]
    assert moved
    assert not any("embeddings" in name for name in moved)
    backbone.requires_grad_(False)
    with pytest.raises(ValueError, match="requires_grad is False for all"):
        make_classifier(backbone=backbone).fit(*texts)
    make_classifier(backbone=backbone, finetune="head", max_epochs=1).fit(*texts)


# --- Early stopping.


class Snapshots:
    """A callback that stores the model of every epoch."""

    def __init__(self) -> None:
        self.models: list[bytes] = []

    def setup(self, estimator: Any, context: Any) -> None:
        pass

    teardown = setup

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        if context.task_name == "epoch":
            self.models.append(pickle.dumps(fitted_estimator._state))


def first_that_is_final(snapshots: Snapshots, clf: Any) -> int:
    """Return the first epoch whose model the fit gave; all later ones show it, too."""
    final = weights_of(clf)
    kept = [pickle.loads(model).model.state_dict() for model in snapshots.models]
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


@pytest.mark.parametrize("seed", [1, 4, 8])
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
        expected, found = stopped._state, pickle.loads(shown)
        assert found.quotes.texts == expected.quotes.texts
        shown_weights = found.model.state_dict()
        for name, weights in weights_of(stopped).items():
            assert torch.equal(shown_weights[name], weights), name


def test_weights_have_the_mean_one_over_what_is_trained_on(
    make_classifier, texts, monkeypatch
):
    """They had it over the held-out texts too."""
    X, y = texts
    seen = []
    monkeypatch.setattr(
        "skprotolm._fitting.TrainingSet",
        lambda *parts: seen.append(parts) or TrainingSet(*parts),
    )
    weights = np.random.RandomState(0).uniform(0.1, 5, len(X))
    make_classifier(**EARLY).fit(X, y, sample_weight=weights)
    [(_, _, trained, _)] = seen
    assert len(trained) < len(X)
    assert float(trained.mean()) == pytest.approx(1)


def test_early_stopping_gives_up(make_classifier, texts):
    X, y = texts
    y = np.random.RandomState(0).permutation(y)  # nothing to be learned
    clf = make_classifier(
        **EARLY, projection=False, max_epochs=40, n_iter_no_change=2
    ).fit(X, y)
    scores = [epoch["validation_score"] for epoch in clf.history_]
    assert clf.n_iter_ < 40
    assert max(scores[-2:]) <= max(scores[:-2], default=1)
    for n in range(4, len(scores)):  # no earlier epoch was a reason to stop
        assert max(scores[n - 2 : n]) > max(scores[: n - 2])


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
    clf = make_classifier(**{**EARLY, **harm}, projection=False)
    start = make_classifier(
        **{**EARLY, "learning_rate": 1e-30, "head_learning_rate": 1e-30},
        projection=False,
        max_epochs=1,
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


# --- Prototypes.


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


def test_texts_that_the_encoder_cannot_tell_apart_are_warned_of(make_classifier):
    X = ["good food", "Good Food", "bad film", "the card was lost"]  # not cased
    clf = make_classifier(n_prototypes=2, max_epochs=1, batch_size=4)
    with pytest.warns(DuplicatePrototypesWarning, match="1 of 4"):
        clf.fit(X, [1, 1, 0, 0])
    assert np.linalg.norm(np.diff(clf.prototypes_.vectors[2:], axis=0)) < 1e-5


def test_a_warning_that_is_an_error_costs_nothing_that_was_learned(make_classifier):
    """It was raised before the model was kept."""
    X, y = ["good food", "Good Food", "bad film", "the card was lost"], [1, 1, 0, 0]
    clf = make_classifier(n_prototypes=2, max_epochs=1, batch_size=4)
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
        bias = clf._state.layer.bias.numpy()
        assert bias[0] - bias[1] == pytest.approx(np.log(share / (1 - share)), abs=1e-4)


@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_automatic_prototypes_stand_for_other_texts(
    make_classifier, texts, formulation
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
        total = e.probability if formulation == "mixture" else e.score - e.base_value
        own = e.prototype_labels == e.target
        mine = e.contributions[own] if formulation == "mixture" else e.contributions
        assert mine.sum() == pytest.approx(total, abs=1e-9)
    assert pickle.loads(pickle.dumps(clf)).predict(X).tolist() == (
        clf.predict(X).tolist()
    )


def test_automatic_prototypes_are_apart_in_the_end(make_classifier, texts):
    clf = make_classifier(n_prototypes="auto", cohesion=0.0, max_epochs=3)
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


@pytest.mark.usefixtures("callbacks")
def test_numbers_that_a_callback_draws_change_nothing(make_classifier, texts, fitted):
    """They came from the generator that dropout reads."""

    class Drawing(Watcher):
        def on_fit_task_begin(self, *args: Any, **kwargs: Any) -> None:
            torch.rand(3)

    X, y = texts
    clf = make_classifier().set_callbacks(Drawing()).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), fitted.predict_proba(X))


@pytest.mark.usefixtures("callbacks")
def test_a_callback_that_fails_at_the_end_leaves_the_earlier_fit(
    make_classifier, texts
):
    """The new one was in place already."""

    class Failing(Watcher):
        def on_fit_task_end(self, estimator: Any, context: Any, **data: Any) -> None:
            if context.task_name == "fit":
                raise RuntimeError("no")

    X, y = texts
    clf = make_classifier().fit(X, y)
    expected = clf.predict_proba(X)
    with pytest.raises(RuntimeError, match="no"):
        clf.set_callbacks(Failing()).fit(X, np.where(y == "pos", 1, 0))
    assert clf.classes_.tolist() == ["neg", "pos"]
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


@pytest.mark.usefixtures("callbacks")
def test_an_interrupt_at_the_very_end_keeps_what_was_learned(make_classifier, texts):
    """All of it was lost, or the fit before it was still there."""

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

    monkeypatch.setattr("skprotolm._formulations.gathered", gather)
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


# --- Interruption and failure.


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException) -> None:
    """Raise an error in place of the optimiser's step of a number, counted from 1."""
    original, taken = torch.optim.AdamW.step, []

    def stepping(self: Any, *args: Any, **kwargs: Any) -> Any:
        taken.append(1)
        if len(taken) == step:
            raise error
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", stepping)


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


# --- Callbacks of scikit-learn.


class Watcher:
    """A callback that asks the model for predictions, and may stop or interrupt."""

    def __init__(self, stop_after: int | None = None, error: Any = None) -> None:
        self.stop_after, self.error = stop_after, error
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.predictions: list[list[np.ndarray]] = []
        self.estimators: list[Any] = []
        self.torn_down = 0

    def setup(self, estimator: Any, context: Any) -> None:
        self.max_subtasks = context.max_subtasks

    def teardown(self, estimator: Any, context: Any) -> None:
        self.torn_down += 1

    def on_fit_task_begin(self, estimator: Any, context: Any, *, X: Any = None) -> None:
        self.begun.append(context.task_name)
        if self.error and len(self.begun) == 3:  # the fit, and two epochs
            raise self.error

    def on_fit_task_end(
        self,
        estimator: Any,
        context: Any,
        *,
        X: Any = None,
        fitted_estimator: Any = None,
    ) -> bool:
        self.ended.append(context.task_name)
        self.predictions.append([fitted_estimator.predict_proba(X) for _ in range(2)])
        self.estimators.append(fitted_estimator)
        return len(self.ended) == self.stop_after


@pytest.fixture
def callbacks() -> Any:
    return pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9")


@pytest.mark.usefixtures("callbacks")
def test_a_callback_is_told_of_the_fit_and_of_every_epoch(make_classifier, texts):
    X, y = texts
    watcher = Watcher()
    clf = make_classifier(max_epochs=3).set_callbacks(watcher).fit(X, y)
    assert watcher.begun == ["fit", "epoch", "epoch", "epoch"]
    assert watcher.ended == ["epoch", "epoch", "epoch", "fit"]
    assert watcher.max_subtasks == 3
    assert watcher.torn_down == 1
    np.testing.assert_array_equal(watcher.predictions[-1][0], clf.predict_proba(X))


@pytest.mark.usefixtures("callbacks")
def test_a_callback_sees_the_model_without_dropout(make_classifier, texts):
    """The model was still in training mode, and predicted something else each time."""
    watcher = Watcher()
    make_classifier().set_callbacks(watcher).fit(*texts)
    for one, other in watcher.predictions:
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("callbacks")
def test_a_callback_that_looks_on_changes_nothing(make_classifier, texts, fitted):
    """Its predictions drew dropout from the generator that the fit goes on with."""
    X, y = texts
    clf = make_classifier().set_callbacks(Watcher()).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), fitted.predict_proba(X))


@pytest.mark.usefixtures("callbacks")
def test_what_a_callback_is_given_names_its_features(make_classifier, texts):
    """Its prototypes were None, so that frames of features failed within an epoch."""
    X, y = texts
    watcher = Watcher()
    make_classifier().set_callbacks(watcher).fit(X, y)
    for estimator in watcher.estimators:
        names = estimator.get_feature_names_out()
        assert len(names) == estimator.transform(X[:1]).shape[1]


@pytest.mark.usefixtures("callbacks")
@pytest.mark.parametrize("n_prototypes", [3, "auto"])
@pytest.mark.parametrize("projection", [True, False])
def test_what_a_callback_is_given_is_what_a_stop_would_give(
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
        given = watcher.estimators[n_epochs - 1]
        np.testing.assert_array_equal(given.predict_proba(X), stopped.predict_proba(X))
        assert given.prototypes_.texts == stopped.prototypes_.texts
        shares = given.explain(X[:1])[0].contributions
        np.testing.assert_allclose(shares.sum(), 1, atol=1e-6)


@pytest.mark.usefixtures("callbacks")
@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
def test_a_stopped_fit_lets_prototypes_go_too(make_classifier, texts, formulation):
    """Those that no text has as its nearest were kept."""
    X, y = texts
    few = [0, 2, 4, 1, 3, 5]
    clf = make_classifier(n_prototypes="auto", max_epochs=3, formulation=formulation)
    clf.set_callbacks(Watcher(stop_after=1)).fit([X[i] for i in few], y[few])
    assert clf.n_iter_ == 1
    assert len(clf.prototypes_) < 6  # each text can not stand for another one
    assert len(clf.explain(X[:1])[0].contributions) == len(clf.prototypes_)


@pytest.mark.usefixtures("callbacks")
def test_what_a_callback_was_given_stays_as_it_was(make_classifier, texts):
    """It was the model under training itself, which went on changing."""
    X, y = texts
    watcher = Watcher()
    make_classifier(max_epochs=3).set_callbacks(watcher).fit(X, y)
    for estimator, (seen, _) in zip(
        watcher.estimators, watcher.predictions, strict=True
    ):
        np.testing.assert_allclose(estimator.predict_proba(X), seen, atol=1e-6)


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
    assert clf.prototypes_.projected.all() == projection
    if projection:
        cosines = clf.transform(list(clf.prototypes_.texts))
        np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-5)
    assert np.isfinite(clf.predict_proba(X)).all()
    assert clf.explain(X[:1])[0].contributions.sum() == pytest.approx(1)


@pytest.mark.usefixtures("callbacks")
def test_a_callback_may_be_interrupted(make_classifier, texts):
    X, y = texts
    watcher = Watcher(error=KeyboardInterrupt())
    clf = make_classifier(max_epochs=3).set_callbacks(watcher)
    with (
        pytest.warns(FitInterruptedWarning, match="1 of 3 whole epochs"),
        pytest.raises(KeyboardInterrupt),
    ):
        clf.fit(X, y)
    assert watcher.torn_down == 1
    assert clf.n_iter_ == 1
    assert np.isfinite(clf.predict_proba(X)).all()


@pytest.mark.usefixtures("callbacks")
def test_a_callback_that_fails_fails_the_fit_and_changes_nothing(
    make_classifier, texts
):
    X, y = texts
    clf = make_classifier().fit(X, y)
    expected = clf.predict_proba(X)
    clf.set_callbacks(Watcher(error=RuntimeError("no disk space")))
    with pytest.raises(RuntimeError, match="no disk space"):
        clf.fit(X[:20], y[:20])
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


def test_scores_are_monitored(make_classifier, texts, callbacks):
    monitor = callbacks.ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    clf = make_classifier(max_epochs=3).set_callbacks(monitor)
    clf.fit(*texts, sample_weight=np.ones(48))
    rows = monitor.get_logs().data
    assert [row["task_name"] for row in rows].count("epoch") == 3
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    [final] = [row for row in rows if row["task_name"] == "fit"]
    assert final["accuracy"] == clf.score(*texts)


def test_a_progress_bar_of_scikit_learn_will_do(
    make_classifier, texts, callbacks, capsys
):
    pytest.importorskip("rich")
    clf = make_classifier().set_callbacks(callbacks.ProgressBar()).fit(*texts)
    assert clf.n_iter_ == 2
    assert "ProtoLMClassifier - fit" in capsys.readouterr().out
