"""Measures of prototypes are those of plain loops over the definitions."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from skprotolm import ProtoLMClassifier
from skprotolm.metrics import (
    explanation_compactness,
    prototype_diversity,
    prototype_purity,
    prototype_uniqueness,
    reading_gain,
    seed_stability,
)
from tests.conftest import make_texts

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


def test_purity_of_the_fit_is_what_prototypes_say(clf):
    np.testing.assert_array_equal(prototype_purity(clf), clf.prototypes_.purities)


def test_purity_counts_the_nearest_texts_of_the_class(clf):
    found = prototype_purity(clf, X, Y, k=4)
    similarities = clf.transform(X)
    for j, prototype in enumerate(clf.prototypes_):
        others = [i for i in range(len(X)) if X[i] != prototype.text]
        near = sorted(others, key=lambda i: -similarities[i, j])[:4]
        expected = np.mean([Y[i] == prototype.label for i in near])
        assert found[j] == pytest.approx(expected)


def test_purity_is_unknown_without_another_text_of_the_class(clf):
    prototypes = clf.prototypes_
    text, label = prototypes.texts[0], prototypes.labels[0]
    found = prototype_purity(clf, [text], [label])
    assert np.isnan(found[0])
    others = prototypes.labels != label
    np.testing.assert_array_equal(np.isnan(found[1:]), others[1:])


def test_purity_asks_no_more_texts_than_the_class_has(clf):
    """With few texts a class, the best that could be had was less than 1."""
    few, labels = NEW[:9], NEW_Y[:9]
    found = prototype_purity(clf, few, labels)
    similarities = clf.transform(few)
    for j, prototype in enumerate(clf.prototypes_):
        mates = sum(label == prototype.label for label in labels)
        assert 0 < mates < 9
        near = np.argsort(-similarities[:, j])[:mates]
        expected = np.mean([labels[i] == prototype.label for i in near])
        assert found[j] == pytest.approx(expected)


def test_purity_whatever_transform_returns(clf):
    """With set_output(transform="pandas") columns were looked up as rows."""
    expected = prototype_purity(clf, X, Y)
    framed = copy.deepcopy(clf).set_output(transform="pandas")
    np.testing.assert_array_equal(prototype_purity(framed, X, Y), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X,), "X and y belong together"),
        ((None, Y), "X and y belong together"),
        ((X, Y[:3]), "y"),
        ((X, ["other"] * len(X)), "other"),
    ],
)
def test_purity_refuses_labels_that_do_not_fit(clf, arguments, message):
    with pytest.raises(ValueError, match=message):
        prototype_purity(clf, *arguments)


def test_uniqueness_counts_what_the_encoder_can_tell_apart(clf):
    """Copies in other letters counted as distinct texts."""
    assert prototype_uniqueness(clf) == 1
    copies = copy.copy(clf)
    first, _, *others = clf.prototypes_.texts
    quotes = replace(clf._fitted.quotes, texts=(first, first.upper(), *others))
    copies._fitted = replace(clf._fitted, quotes=quotes)
    n = len(clf.prototypes_)
    assert prototype_uniqueness(copies) == (n - 1) / n


def test_copies_of_a_prototype_are_not_around_it(clf):
    """Copies in other letters made every prototype pure."""
    texts = [text.upper() for text in clf.prototypes_.texts]
    alone = prototype_purity(clf, texts, clf.prototypes_.labels)
    plain = prototype_purity(clf, clf.prototypes_.texts, clf.prototypes_.labels)
    np.testing.assert_array_equal(alone, plain)


def test_redacted_prototypes_are_not_taken_for_copies(clf):
    """Two that stood behind the same words counted as one text."""
    edited = copy.deepcopy(clf).redact_prototypes({0: "[gone]", 1: "[gone]"})
    assert prototype_uniqueness(edited) == 1
    edited.redact_prototypes(dict.fromkeys(range(len(clf.prototypes_)), "[gone]"))
    assert np.isnan(prototype_uniqueness(edited))


def test_diversity_is_the_distance_to_the_nearest_of_the_class(clf):
    found = prototype_diversity(clf)
    vectors, labels = clf.prototypes_.vectors, clf.prototypes_.labels
    for j in range(len(labels)):
        mates = [i for i in range(len(labels)) if labels[i] == labels[j] and i != j]
        nearest = max(cosine(vectors[i], vectors[j]) for i in mates)
        assert found[j] == pytest.approx(1 - nearest, abs=1e-5)


def test_a_lone_prototype_has_no_diversity(make_classifier):
    clf = make_classifier(n_prototypes={"neg": 1, "pos": 2}, max_epochs=1).fit(X, Y)
    alone, *others = np.isnan(prototype_diversity(clf))
    assert alone
    assert not any(others)


@pytest.mark.parametrize("formulation", ["mixture", "proto-lm"])
@pytest.mark.parametrize("mass", [0.5, 0.9])
def test_compactness_counts_the_largest_contributions(
    make_classifier, formulation, mass
):
    clf = make_classifier(formulation=formulation, max_epochs=1).fit(X, Y)
    found = explanation_compactness(clf, NEW, mass=mass)
    for row, e in enumerate(clf.explain(NEW)):
        sizes = sorted(abs(e.contributions), reverse=True)
        sums = list(itertools.accumulate(sizes))
        needed = next(n for n, s in enumerate(sums, 1) if s >= mass * sums[-1])
        assert found[row] == needed


@pytest.mark.parametrize("mass", [0, 1, -0.5, "most"])
def test_compactness_needs_a_share(clf, mass):
    with pytest.raises(ValueError, match="mass must be a number in"):
        explanation_compactness(clf, NEW, mass=mass)


def test_reading_gain_is_that_of_the_definition(clf, frozen):
    found = reading_gain(clf, NEW)
    quoted = frozen.encode(list(clf.prototypes_.texts))
    for row, e in enumerate(clf.explain(NEW)):
        top = e.prototypes[int(np.argmax([p.contribution for p in e.prototypes]))]
        x = frozen.encode([NEW[row]])[0]
        mine = [
            cosine(x, quoted[p.index]) for p in e.prototypes if p.label == top.label
        ]
        gain = cosine(x, quoted[top.index]) - np.mean(mine)
        assert found[row] == pytest.approx(gain / (max(mine) - np.mean(mine)), abs=1e-3)


def test_reading_gain_is_unknown_where_there_is_no_choice(make_classifier):
    clf = make_classifier(n_prototypes=1, max_epochs=1).fit(X, Y)
    assert np.isnan(reading_gain(clf, NEW)).all()


def test_another_judge_of_the_reading_is_left_as_it_is(clf, frozen):
    frozen.train()
    np.testing.assert_allclose(
        reading_gain(clf, NEW, encoder=frozen), reading_gain(clf, NEW)
    )
    assert frozen.training
    frozen.eval()


def test_pairs_have_a_reading_gain(make_classifier):
    pairs = list(zip(X, X[::-1], strict=True))
    clf = make_classifier(max_epochs=1).fit(pairs, Y)
    found = reading_gain(clf, pairs[:5])
    assert found.shape == (5,)
    assert (found[~np.isnan(found)] <= 1 + 1e-6).all()


def test_stability_is_one_with_itself(clf):
    np.testing.assert_allclose(seed_stability(clf, clf), 1, atol=1e-6)


def test_stability_matches_at_the_largest_sum(make_classifier, clf, frozen):
    other = make_classifier(max_epochs=3, random_state=5, n_prototypes=2).fit(X, Y)
    found = seed_stability(clf, other)
    expected = []
    for label in clf.classes_:
        ours, theirs = (
            frozen.encode([p.text for p in model.prototypes_ if p.label == label])
            for model in (clf, other)
        )
        sums = [
            sum(cosine(ours[i], theirs[j]) for j, i in enumerate(chosen))
            for chosen in itertools.permutations(range(len(ours)), len(theirs))
        ]
        expected.append(max(sums))
    assert found.shape == (4,)
    np.testing.assert_allclose(found.reshape(2, 2).sum(axis=1), expected, atol=1e-4)


def test_stability_needs_the_same_classes(make_classifier, clf):
    other = make_classifier(max_epochs=1).fit(X, Y == "pos")
    with pytest.raises(ValueError, match="same classes"):
        seed_stability(clf, other)


def test_what_stands_in_for_a_redacted_text_is_not_read(clf):
    """Placeholders were read as if they were the prototypes' texts."""
    redacted = copy.deepcopy(clf)
    redacted.redact_prototypes({0: "[not to be shown]"})
    assert len(seed_stability(clf, redacted)) == len(clf.prototypes_) - 1
    np.testing.assert_allclose(seed_stability(redacted, redacted), 1, atol=1e-6)
    purity = prototype_purity(redacted, X, Y)
    assert np.isnan(purity[0])
    np.testing.assert_array_equal(purity[1:], prototype_purity(clf, X, Y)[1:])
    gains = reading_gain(redacted, X)
    tops = [np.argmax(e.contributions) for e in clf.explain(X)]
    assert 0 in tops, "no text rests on the redacted prototype"
    for gain, usual, top in zip(gains, reading_gain(clf, X), tops, strict=True):
        if top == 0:
            assert np.isnan(gain)
        elif clf.prototypes_.labels[top] != clf.prototypes_.labels[0]:
            assert gain == pytest.approx(usual, nan_ok=True)
