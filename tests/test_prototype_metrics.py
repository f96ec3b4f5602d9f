"""Measures of prototypes equal plain loops over their definitions."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from skprotolm import ProtoLMClassifier
from skprotolm._fitted import fitted_model
from skprotolm.metrics import (
    explanation_compactness,
    prototype_diversity,
    prototype_purity,
    prototype_uniqueness,
    reading_gain,
    seed_stability,
)
from skprotolm.metrics._prototypes import uniqueness
from tests.texts import make_texts

X, Y = make_texts()
NEW, NEW_Y = make_texts(20, seed=7)


@pytest.fixture(scope="module")
def clf(make_classifier) -> ProtoLMClassifier:
    return make_classifier(max_epochs=3).fit(X, Y)


@pytest.fixture(scope="module")
def frozen(tiny_folder) -> SentenceTransformer:
    return SentenceTransformer(str(tiny_folder), device="cpu")


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_purity_without_texts_is_that_of_the_fit(clf):
    np.testing.assert_array_equal(prototype_purity(clf), clf.prototypes_.purities)


def test_purity_counts_the_nearest_texts_of_the_class(clf):
    purity = prototype_purity(clf, X, Y, k=4)
    similarities = clf.transform(X)
    for j, prototype in enumerate(clf.prototypes_):
        others = [i for i in range(len(X)) if X[i] != prototype.text]
        nearest = sorted(others, key=lambda i: -similarities[i, j])[:4]
        expected = np.mean([Y[i] == prototype.label for i in nearest])
        assert purity[j] == pytest.approx(expected)


def test_purity_is_nan_without_another_text_of_the_class(clf):
    prototypes = clf.prototypes_
    text, label = prototypes.texts[0], prototypes.labels[0]
    purity = prototype_purity(clf, [text], [label])
    assert np.isnan(purity[0])
    others = prototypes.labels != label
    np.testing.assert_array_equal(np.isnan(purity[1:]), others[1:])


def test_purity_has_at_most_as_many_neighbors_as_the_class_has_texts(clf):
    """With few texts per class, the best purity was less than 1."""
    few, labels = NEW[:9], NEW_Y[:9]
    purity = prototype_purity(clf, few, labels)
    similarities = clf.transform(few)
    for j, prototype in enumerate(clf.prototypes_):
        class_size = sum(label == prototype.label for label in labels)
        assert 0 < class_size < 9
        nearest = np.argsort(-similarities[:, j])[:class_size]
        expected = np.mean([labels[i] == prototype.label for i in nearest])
        assert purity[j] == pytest.approx(expected)


def test_purity_does_not_depend_on_set_output(clf):
    """With set_output(transform="pandas") columns were used as rows."""
    expected = prototype_purity(clf, X, Y)
    framed = copy.deepcopy(clf).set_output(transform="pandas")
    np.testing.assert_array_equal(prototype_purity(framed, X, Y), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X,), "X and y must be passed together"),
        ((None, Y), "X and y must be passed together"),
        ((X, Y[:3]), "y"),
        ((X, ["other"] * len(X)), "other"),
    ],
)
def test_purity_with_invalid_labels_raises(clf, arguments, message):
    with pytest.raises(ValueError, match=message):
        prototype_purity(clf, *arguments)


def test_uniqueness_counts_texts_that_the_encoder_distinguishes(clf):
    """Copies in upper case counted as distinct texts."""
    assert prototype_uniqueness(clf) == 1
    model = fitted_model(clf)
    first, _, *others = model.quotes.texts
    quotes = replace(model.quotes, texts=(first, first.upper(), *others))
    n = len(model.prototypes)
    assert uniqueness(replace(model, quotes=quotes)) == (n - 1) / n


def test_copies_of_a_prototype_are_not_its_neighbors(clf):
    """Copies in upper case made every prototype pure."""
    prototypes = clf.prototypes_
    copies = [text.upper() for text in prototypes.texts]
    np.testing.assert_array_equal(
        prototype_purity(clf, copies, prototypes.labels),
        prototype_purity(clf, prototypes.texts, prototypes.labels),
    )


def test_redacted_prototypes_do_not_count_as_copies(clf):
    """Two with the same replacement text counted as one text."""
    edited = copy.deepcopy(clf).redact_prototypes({0: "[redacted]", 1: "[redacted]"})
    assert prototype_uniqueness(edited) == 1
    edited.redact_prototypes(dict.fromkeys(range(len(clf.prototypes_)), "[redacted]"))
    assert np.isnan(prototype_uniqueness(edited))


def test_diversity_is_the_distance_to_the_nearest_of_the_class(clf):
    diversity = prototype_diversity(clf)
    vectors, labels = clf.prototypes_.vectors, clf.prototypes_.labels
    for j in range(len(labels)):
        others = [i for i in range(len(labels)) if labels[i] == labels[j] and i != j]
        largest = max(cosine(vectors[i], vectors[j]) for i in others)
        assert diversity[j] == pytest.approx(1 - largest, abs=1e-5)


def test_the_only_prototype_of_a_class_has_no_diversity(make_classifier):
    clf = make_classifier(n_prototypes={"neg": 1, "pos": 2}, max_epochs=1).fit(X, Y)
    assert np.isnan(prototype_diversity(clf)).tolist() == [True, False, False]


@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
@pytest.mark.parametrize("mass", [0.5, 0.9])
def test_compactness_counts_the_largest_contributions(
    make_classifier, formulation, mass
):
    clf = make_classifier(formulation=formulation, max_epochs=1).fit(X, Y)
    counts = explanation_compactness(clf, NEW, mass=mass)
    for row, e in enumerate(clf.explain(NEW)):
        sizes = sorted(abs(e.contributions), reverse=True)
        sums = list(itertools.accumulate(sizes))
        expected = next(n for n, s in enumerate(sums, 1) if s >= mass * sums[-1])
        assert counts[row] == expected


@pytest.mark.parametrize("mass", [0, 1, -0.5, "most"])
def test_an_invalid_mass_raises(clf, mass):
    with pytest.raises(ValueError, match="mass must be a number in"):
        explanation_compactness(clf, NEW, mass=mass)


def test_the_stability_of_equal_fits_is_one(clf):
    np.testing.assert_allclose(seed_stability(clf, clf), 1, atol=1e-6)


def test_stability_has_the_largest_sum_of_all_matchings(make_classifier, clf, frozen):
    other = make_classifier(max_epochs=3, random_state=5, n_prototypes=2).fit(X, Y)
    stability = seed_stability(clf, other)
    expected = []
    for label in clf.classes_:
        first, second = (
            frozen.encode([p.text for p in model.prototypes_ if p.label == label])
            for model in (clf, other)
        )
        sums = [
            sum(cosine(first[i], second[j]) for j, i in enumerate(matching))
            for matching in itertools.permutations(range(len(first)), len(second))
        ]
        expected.append(max(sums))
    assert stability.shape == (4,)
    np.testing.assert_allclose(stability.reshape(2, 2).sum(axis=1), expected, atol=1e-4)


def test_stability_needs_the_same_classes(make_classifier, clf):
    other = make_classifier(max_epochs=1).fit(X, Y == "pos")
    with pytest.raises(ValueError, match="same classes"):
        seed_stability(clf, other)


def test_replacements_of_redacted_texts_are_not_measured(clf):
    """They were encoded like the prototypes' texts."""
    redacted = copy.deepcopy(clf)
    redacted.redact_prototypes({0: "[not to be shown]"})
    assert len(seed_stability(clf, redacted)) == len(clf.prototypes_) - 1
    np.testing.assert_allclose(seed_stability(redacted, redacted), 1, atol=1e-6)
    purity = prototype_purity(redacted, X, Y)
    assert np.isnan(purity[0])
    np.testing.assert_array_equal(purity[1:], prototype_purity(clf, X, Y)[1:])
    gains = reading_gain(redacted, X)
    tops = [np.argmax(e.contributions) for e in clf.explain(X)]
    assert 0 in tops, "the redacted prototype is no top prototype"
    for gain, usual, top in zip(gains, reading_gain(clf, X), tops, strict=True):
        if top == 0:
            assert np.isnan(gain)
        elif clf.prototypes_.labels[top] != clf.prototypes_.labels[0]:
            assert gain == pytest.approx(usual, nan_ok=True)
