"""Novelty: how unlike all prototypes a text is."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from skprotolm import ProtoLMClassifier
from tests.helpers import FORMULATIONS
from tests.texts import make_texts


def test_novelty_is_that_of_the_formula(fitted, texts):
    cosines, priors = fitted.transform(texts[0]), fitted.prototypes_.priors
    sharpness = fitted._fitted.layer.sharpness
    for row, novelty in zip(cosines, fitted.novelty_score(texts[0]), strict=True):
        total = sum(
            prior * np.exp(sharpness * cosine)
            for prior, cosine in zip(priors, row, strict=True)
        )
        assert novelty == pytest.approx(-np.log(total / 2) / sharpness, abs=1e-9)
        assert -1 <= novelty <= 1


def test_novelty_under_proto_lm_is_the_distance_to_the_nearest(make_classifier, texts):
    clf = make_classifier(formulation="proto-lm").fit(*texts)
    expected = 1 / clf.transform(texts[0]).max(axis=1) - 1e-4
    np.testing.assert_allclose(clf.novelty_score(texts[0]), expected, atol=1e-6)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_prototypes_are_less_novel_than_other_texts(
    make_classifier, texts, formulation
):
    """On average: a text may be near several of them."""
    X, y = texts
    clf = make_classifier(formulation=formulation).fit(X, y)
    is_prototype = np.isin(X, clf.prototypes_.texts)
    novelty = clf.novelty_score(X)
    assert novelty[is_prototype].mean() < np.median(novelty[~is_prototype])


def test_novelty_rises_where_a_prototype_is_removed(fitted, texts):
    clf: ProtoLMClassifier = copy.deepcopy(fitted)
    before = clf.novelty_score(texts[0])
    assert (clf.remove_prototypes(0).novelty_score(texts[0]) > before).all()


def test_the_novelty_threshold_is_a_quantile(fitted):
    X, _ = make_texts(40, seed=5)
    scores = np.sort(fitted.novelty_score(X))
    assert fitted.novelty_threshold(X, rate=0.1) == scores[36]  # ⌈41·0.9⌉ = 37
    assert fitted.novelty_threshold(X, rate=0.5) == scores[20]
    assert fitted.novelty_threshold(X[:19]) == fitted.novelty_score(X[:19]).max()


@pytest.mark.parametrize("rate", [0, 1, -0.1, "0.1", None, True, float("nan")])
def test_the_novelty_threshold_rejects_an_invalid_rate(fitted, rate):
    with pytest.raises(ValueError, match=r"rate must be a number in \(0, 1\)"):
        fitted.novelty_threshold(["good"] * 20, rate=rate)


def test_the_novelty_threshold_needs_enough_texts(fitted):
    with pytest.raises(ValueError, match="needs at least 19 texts, got 18"):
        fitted.novelty_threshold(["good"] * 18)
