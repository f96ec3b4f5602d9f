"""Prototypes of a fit: how many, which texts, and what is warned of."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skprotolm.exceptions import (
    DuplicatePrototypesWarning,
    FewerPrototypesWarning,
    UnpredictedClassWarning,
)
from skprotolm.metrics import prototype_diversity
from tests.helpers import FORMULATIONS, ablated, without_times
from tests.texts import make_texts

# Which texts.


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
@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("fp32", 1e-5), ("bf16", 1e-3)],  # "bf16" predicts in bfloat16 too
)
def test_projected_prototypes_have_the_vectors_of_their_texts(
    make_classifier, texts, early_stopping, max_epochs, precision, tolerance
):
    clf = make_classifier(
        n_prototypes=2,
        max_epochs=max_epochs,
        precision=precision,
        early_stopping=early_stopping,
        validation_fraction=0.4,
    ).fit(*texts)
    cosines = clf.transform(list(clf.prototypes_.texts))
    np.testing.assert_allclose(np.diag(cosines), 1, atol=tolerance)


def test_projected_prototypes_of_proto_lm_are_at_distance_0(make_classifier, texts):
    clf = make_classifier(formulation="proto-lm").fit(*texts)
    similarities = clf.transform(list(clf.prototypes_.texts))
    assert np.diag(similarities).min() > 1 / (1e-4 + 1e-5)


def test_without_projection_prototypes_are_learned_vectors(make_classifier, texts):
    clf = make_classifier(projection=False).fit(*texts)
    assert not clf.prototypes_.projected.any()
    cosines = np.diag(clf.transform(list(clf.prototypes_.texts)))
    assert (cosines < 1 - 1e-4).all()
    assert make_classifier().fit(*texts).prototypes_.projected.all()


def test_a_text_in_several_rows_becomes_one_prototype(make_classifier, texts):
    X, y = texts
    rows = [0] * 5 + [2, 4] + [1] * 2 + [3]
    clf = make_classifier(n_prototypes={"pos": 3, "neg": 2})
    clf.fit([X[i] for i in rows], y[rows])
    assert sorted(clf.prototypes_.texts) == sorted({X[i] for i in rows})


def test_a_text_with_two_labels_does_not_become_a_prototype(make_classifier, texts):
    X, y = [*texts[0][:8], texts[0][0]], [*texts[1][:8], "neg"]
    clf = make_classifier(n_prototypes={"pos": 3, "neg": 4}).fit(X, y)
    assert X[0] not in clf.prototypes_.texts
    with pytest.raises(ValueError, match="'b' has no text of its own"):
        make_classifier().fit(["one", "two", "three", "one"], ["a", "a", "a", "b"])


# How many.


def test_a_dict_sets_the_prototypes_per_class(make_classifier, texts):
    clf = make_classifier(n_prototypes={"pos": 1, "neg": 3}).fit(*texts)
    assert clf.prototypes_.labels.tolist() == ["neg", "neg", "neg", "pos"]
    with pytest.raises(ValueError, match="'pos'"):
        make_classifier(n_prototypes={"neg": 3}).fit(*texts)
    more = {"neg": 3, "pos": 1, "a label without texts": 2}
    again = make_classifier(n_prototypes=more).fit(*texts)
    assert again.prototypes_.texts == clf.prototypes_.texts


def test_fewer_texts_than_prototypes_are_warned_of(make_classifier, texts):
    X, y = texts
    few = [0, 2, 4, 6, 8, 1, 3]  # five of "pos", two of "neg"
    clf = make_classifier(n_prototypes=5)
    with pytest.warns(FewerPrototypesWarning, match=r"'neg' \(2\)"):
        clf.fit([X[i] for i in few], y[few])
    assert clf.prototypes_.labels.tolist() == ["neg"] * 2 + ["pos"] * 5


@pytest.mark.parametrize(
    ("formulation", "n_prototypes"),
    [("mixture", range(1, 25)), ("proto-lm", range(2, 11))],
)
def test_the_automatic_number_of_prototypes_depends_on_the_texts(
    make_classifier, texts, formulation, n_prototypes
):
    X, y = texts
    clf = make_classifier(
        n_prototypes="auto", formulation=formulation, max_epochs=3
    ).fit(X, y)
    prototypes = clf.prototypes_
    assert len(set(prototypes.texts)) == len(prototypes)
    for label in clf.classes_:
        assert np.sum(prototypes.labels == label) in n_prototypes
    again = pickle.loads(pickle.dumps(clf))
    assert again.predict(X).tolist() == clf.predict(X).tolist()


def test_automatic_prototypes_are_classified_correctly(make_classifier):
    """Of labels at random, the model learns some."""
    X, y = make_texts()
    y = np.random.RandomState(0).permutation(y)
    clf = make_classifier(n_prototypes="auto", max_epochs=10).fit(X, y)
    learned = clone(clf).set_params(projection=False).fit(X, y)
    is_right = learned.predict(X) == y
    assert 0.5 < is_right.mean() < 1
    assert is_right[clf.prototypes_.train_indices].all()
    assert set(clf.prototypes_.labels) == set(clf.classes_)


@pytest.mark.parametrize(
    ("formulation", "total"),
    [
        ("mixture", lambda e: e.contributions.sum() - 1),
        ("proto-lm", lambda e: e.base_value + e.contributions.sum() - e.score),
    ],
)
def test_contributions_are_exact_after_pruning(
    make_classifier, texts, formulation, total
):
    clf = make_classifier(n_prototypes="auto", formulation=formulation, max_epochs=3)
    for e in clf.fit(*texts).explain(texts[0][:5]):
        assert len(e.contributions) == len(clf.prototypes_) < 48
        assert total(e) == pytest.approx(0, abs=1e-9)


def test_automatic_prototypes_are_no_near_duplicates(make_classifier, texts):
    nearest = []
    for n_prototypes in ("auto", 24):
        clf = make_classifier(n_prototypes=n_prototypes, max_epochs=6).fit(*texts)
        gaps = prototype_diversity(clf)
        nearest.append(gaps[~np.isnan(gaps)].min())
    assert len(clf.prototypes_) == 48
    assert nearest[1] < 0.005 < nearest[0]


# Priors and biases.


def test_priors_of_a_class_sum_to_1(fitted):
    priors, labels = fitted.prototypes_.priors, fitted.prototypes_.labels
    for label in fitted.classes_:
        assert priors[labels == label].sum() == pytest.approx(1)
        assert (priors[labels == label] > 0).all()


def test_automatic_prototypes_have_equal_priors_that_sum_to_1(make_classifier, texts):
    """Those that are pruned have none, and no warning says that they are fewer."""
    clf = make_classifier(n_prototypes="auto", max_epochs=6)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FewerPrototypesWarning)
        prototypes = clf.fit(*texts).prototypes_
    assert len(prototypes) < 48
    for label in clf.classes_:
        priors = prototypes.priors[prototypes.labels == label]
        assert priors.tolist() == pytest.approx([1 / len(priors)] * len(priors))


@pytest.mark.parametrize(
    ("class_weight", "share"), [(None, 3 / 27), ("balanced", 0.5 / 1.5)]
)
def test_biases_start_at_the_weighted_shares_of_the_classes(
    make_classifier, texts, class_weight, share
):
    """With equal biases rare classes were predicted too often."""
    X, y = texts
    rows = [i for i in range(len(X)) if y[i] == "pos" or i < 12]
    X, y = [X[i] for i in rows], y[rows]
    clf = make_classifier(
        learning_rate=1e-9,
        head_learning_rate=1e-9,
        max_epochs=1,
        projection=False,
        class_weight=class_weight,
    ).fit(X, y, sample_weight=np.where(y == "pos", 1.0, 0.5))
    bias = clf._fitted.layer.readout.bias.numpy()
    expected = np.log(share / (1 - share))
    assert bias[0] - bias[1] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("n_prototypes", [2, "auto"])
def test_recalibration_brings_probabilities_nearer_to_those_learned(
    make_classifier, texts, n_prototypes
):
    """Training is the same in all three fits."""
    X, y = texts
    clf = make_classifier(n_prototypes=n_prototypes)
    learned = clone(clf).set_params(projection=False).fit(X, y)
    recalibrated = clone(clf).fit(X, y)
    plain = ablated(clf, recalibrate=False).fit(X, y)
    assert recalibrated.prototypes_.texts == plain.prototypes_.texts
    for other in (recalibrated, plain):
        assert without_times(other.history_) == without_times(learned.history_)
    others = [x for x in X if x not in plain.prototypes_.texts]
    expected = np.log(learned.predict_proba(others))
    gaps = [
        np.sum(np.exp(expected) * (expected - np.log(model.predict_proba(others))))
        for model in (recalibrated, plain)
    ]
    assert gaps[0] < gaps[1]


# Coinciding prototypes.


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


def test_texts_of_one_vector_are_warned_of(twins):
    with pytest.warns(DuplicatePrototypesWarning, match="1 of 4"):
        twins.fit(*TWINS)
    assert np.linalg.norm(np.diff(twins.prototypes_.vectors[2:], axis=0)) < 1e-5


def test_the_model_is_kept_if_a_warning_is_an_error(twins):
    X, y = TWINS
    with warnings.catch_warnings():
        warnings.simplefilter("error", DuplicatePrototypesWarning)
        with pytest.raises(DuplicatePrototypesWarning):
            twins.fit(X, y)
    assert twins.predict(X).shape == (4,)


# Frames of texts and labels.


@pytest.mark.parametrize(("order", "column"), [((0, 1), 1), ((1, 0), 0)])
@pytest.mark.parametrize(
    ("names", "message"),
    [(("neg", "pos"), "holds the la"), (("disliked", "liked"), "or other names of")],
    ids=["labels", "other names"],
)
def test_a_column_of_labels_is_refused(
    make_classifier, texts, order, column, names, message
):
    """With the label as a second text the accuracy was 1.0."""
    X, y = texts
    columns = [X, np.where(y == "pos", names[1], names[0]).tolist()]
    pairs = list(zip(*(columns[i] for i in order), strict=True))
    with pytest.raises(ValueError, match=rf"Column {column} of X .*{message}"):
        make_classifier().fit(pairs, y)


def test_two_pairs_in_many_rows_are_accepted(make_classifier):
    pairs = [("good food", "a warm day"), ("bad film", "a cold day")] * 5
    clf = make_classifier(n_prototypes=1, max_epochs=1).fit(pairs, [0, 1] * 5)
    assert len(clf.prototypes_) == 2


# Classes that are never predicted.


@pytest.mark.parametrize(
    ("early_stopping", "kind"),
    [(True, "held-out text"), (False, "training text that is not a prototype")],
)
def test_a_class_that_is_never_predicted_is_warned_of(
    make_classifier, early_stopping, kind
):
    X, _ = make_texts(60)
    y = np.where(np.arange(60) < 8, "rare", "frequent")
    clf = make_classifier(
        max_epochs=2,
        n_prototypes=1,
        early_stopping=early_stopping,
        validation_fraction=0.4,
    )
    with pytest.warns(UnpredictedClassWarning, match=f"for a {kind}: 'rare'"):
        clf.fit(X, y)
    others = np.setdiff1d(np.arange(60), clf.prototypes_.train_indices)
    assert "rare" not in clf.predict([X[i] for i in others])


def test_predicted_classes_are_not_warned_of(make_classifier, texts):
    X, y = texts
    clf = make_classifier(max_epochs=6, learning_rate=5e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnpredictedClassWarning)
        clf.fit(X, y)
    assert clf.score(X, y) > 0.9
