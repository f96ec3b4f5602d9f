"""The sums of explanations are exactly what the model predicts."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from skprotolm import ProtoLMClassifier
from skprotolm.datasets import load_rotten_tomatoes
from tests.helpers import FORMULATIONS
from tests.texts import make_texts
from tests.tiny import MODEL_TYPES, make_encoder

# Explained besides texts like those of training: without a word, without a letter, of
# one letter, of letters of several bytes, of several lines, and a long text.
ODD = ["", "😀", "a", "naïve café – what a day!", "the end\n\n the end ", "good " * 40]


@pytest.fixture(scope="module")
def fitted_on(tmp_path_factory) -> Callable[..., ProtoLMClassifier]:
    """Return a maker of classifiers on the tiny encoders, fitted once each."""

    @cache
    def encoder(kind: str) -> Any:
        return make_encoder(kind, tmp_path_factory.mktemp(kind))

    @cache
    def fit(kind: str, n_classes: int, pairs: bool, **parameters: Any) -> Any:
        X, _ = make_texts()
        y = np.arange(len(X)) % n_classes
        if pairs:
            X = [(text, f"so it was {i % 5}") for i, text in enumerate(X)]
        clf = ProtoLMClassifier(
            encoder(kind),
            n_prototypes={c: 1 + 2 * c for c in range(n_classes)},
            max_epochs=2,
            batch_size=8,
            learning_rate=1e-3,
            head_learning_rate=1e-2,
            random_state=0,
        )
        return clf.set_params(**parameters).fit(X, y)

    return fit


@pytest.fixture(params=[2, 4], ids=["2 classes", "4 classes"])
def n_classes(request) -> int:
    return request.param


@pytest.fixture(params=MODEL_TYPES)
def kind(request) -> str:
    return request.param


@pytest.fixture
def clf(fitted_on, kind, n_classes) -> ProtoLMClassifier:
    return fitted_on(kind, n_classes, False)


def texts_to_explain(pairs: bool = False) -> list[Any]:
    X = [*make_texts(6, seed=3)[0], *ODD]
    return list(zip(X, X[::-1], strict=True)) if pairs else X


def assert_exact(clf: ProtoLMClassifier, X: list[Any], targets: Any = None) -> None:
    """Check the four sums of an explanation against the predictions."""
    p, cosines = clf.predict_proba(X), clf.transform(X)
    labels, classes = clf.prototypes_.labels, clf.classes_
    explanations = clf.explain(X, target=targets, token_method="decomposition")
    for row, e in enumerate(explanations):
        np.testing.assert_allclose(e.class_probabilities, p[row], atol=1e-5)
        np.testing.assert_allclose(e.similarities, cosines[row], atol=1e-5)
        # 1. Shares.
        assert (e.contributions >= 0).all()
        assert e.contributions.sum() == pytest.approx(1, abs=1e-5)
        for c, label in enumerate(classes):
            share = e.contributions[labels == label].sum()
            assert share == pytest.approx(p[row, c], abs=1e-5)
        # 2. Similarity by tokens.
        by_token = e.token_similarities
        assert by_token.shape == (len(e.tokens), len(labels))
        np.testing.assert_allclose(by_token.sum(axis=0), e.similarities, atol=1e-4)
        # 3. Similarity by pairs of tokens.
        for j in {0, len(labels) // 2, len(labels) - 1}:
            by_pair = e.alignment(j)
            assert by_pair.sum() == pytest.approx(e.similarities[j], abs=1e-4)
            np.testing.assert_allclose(by_pair.sum(axis=1), by_token[:, j], atol=1e-4)
        # 4. Log-odds by tokens.
        k = classes.tolist().index(e.target)
        log_odds = np.log(p[row, k]) - np.log(np.delete(p[row], k).sum())
        assert e.log_odds == pytest.approx(log_odds, abs=1e-5)
        assert len(e.token_scores) == len(e.tokens)
        total = e.base_value + e.token_scores.sum()
        assert total == pytest.approx(e.log_odds, abs=1e-5)


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
def test_explanations_of_predictions_are_exact(clf):
    assert_exact(clf, texts_to_explain())


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
@pytest.mark.parametrize("kind", ["bert", "gpt2"], indirect=True)
def test_explanations_of_every_class_are_exact(clf, n_classes):
    X = texts_to_explain()[4:10]
    for label in range(n_classes):
        assert_exact(clf, X, label)
    assert_exact(clf, X, [i % n_classes for i in range(len(X))])


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_explanations_of_pairs_are_exact(fitted_on, kind, n_classes):
    assert_exact(fitted_on(kind, n_classes, True), texts_to_explain(pairs=True))


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
def test_explanations_after_a_prompt_are_exact(tmp_path):
    encoder = make_encoder("bert", tmp_path)
    encoder.prompts, encoder.default_prompt_name = {"ask": "what a day: "}, "ask"
    clf = ProtoLMClassifier(encoder, n_prototypes=2, max_epochs=1, random_state=0)
    assert_exact(clf.fit(*make_texts()), texts_to_explain())


def test_explanations_are_exact_in_double_precision(tmp_path):
    encoder = make_encoder("bert", tmp_path, dtype=torch.float64)
    clf = ProtoLMClassifier(encoder, n_prototypes=2, max_epochs=1, random_state=0)
    X, y = make_texts()
    for e in clf.fit(X, y).explain(X[:6], token_method="decomposition"):
        total = e.base_value + e.token_scores.sum()
        assert total == pytest.approx(e.log_odds, abs=1e-12)
        assert e.contributions.sum() == pytest.approx(1, abs=1e-12)
        np.testing.assert_allclose(
            e.token_similarities.sum(axis=0), e.similarities, atol=1e-12
        )


@pytest.mark.parametrize("kind", ["bert"], indirect=True)
def test_shares_follow_from_priors_and_cosines(clf):
    """They are p_c · π_j exp(λ cos_j) / Σ_i π_i exp(λ cos_i)."""
    prototypes, sharpness = clf.prototypes_, clf._fitted.layer.sharpness
    for e in clf.explain(texts_to_explain()[:6]):
        for label, p in e.probabilities.items():
            members = np.flatnonzero(prototypes.labels == label)
            terms = [
                prototypes.priors[j] * np.exp(sharpness * e.similarities[j])
                for j in members
            ]
            for j, term in zip(members, terms, strict=True):
                assert e.contributions[j] == pytest.approx(p * term / sum(terms))


@pytest.mark.parametrize("kind", ["bert", "llama"], indirect=True)
def test_token_scores_follow_from_shares_and_token_similarities(clf, n_classes):
    """They are κ Σ_j (±share_j, normalized) · S_tj, with one κ for all texts."""
    labels = clf.prototypes_.labels
    for target in range(n_classes):
        concentrations = []
        X = make_texts(6, seed=3)[0]
        for e in clf.explain(X, target=target, token_method="decomposition"):
            is_target = labels == target
            signed = np.where(
                is_target, e.contributions / e.probability, -e.contributions
            ) / np.where(is_target, 1, 1 - e.probability)
            expected = e.token_similarities @ signed
            kappa = e.token_scores @ expected / (expected @ expected)
            np.testing.assert_allclose(e.token_scores, kappa * expected, atol=1e-5)
            concentrations.append(kappa)
        np.testing.assert_allclose(concentrations, concentrations[0], rtol=1e-3)
        assert concentrations[0] == pytest.approx(np.exp(2), rel=0.5)  # near its start


@pytest.mark.parametrize("kind", ["bert"], indirect=True)
@pytest.mark.parametrize("n_classes", [2], indirect=True)
def test_token_scores_of_two_classes_have_opposite_signs(clf):
    X = texts_to_explain()[:6]
    ones, others = (
        clf.explain(X, target=target, token_method="decomposition") for target in (0, 1)
    )
    for a, b in zip(ones, others, strict=True):
        assert a.log_odds == pytest.approx(-b.log_odds)
        assert a.base_value == pytest.approx(-b.base_value)
        np.testing.assert_allclose(a.token_scores, -b.token_scores, atol=1e-10)
        np.testing.assert_array_equal(a.contributions, b.contributions)


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
def test_attention_of_the_content_tokens_sums_to_1(clf):
    for e in clf.explain(texts_to_explain()):
        assert e.attention.sum() == pytest.approx(1, abs=1e-5)
        assert (e.attention > 0).all()
        assert len(e.attention) == len(e.tokens) == len(e.offsets) == len(e.segments)


# The other texts of a batch.


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
def test_results_do_not_depend_on_the_batch(clf):
    X = texts_to_explain()
    together = clf.predict_proba(X)
    alone = np.concatenate([clf.predict_proba([text]) for text in X])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(
        clf.transform(X), np.concatenate([clf.transform([t]) for t in X]), atol=1e-5
    )
    for e, text in zip(clf.explain(X), X, strict=True):
        [single] = clf.explain([text])
        assert e.tokens == single.tokens
        np.testing.assert_allclose(e.token_scores, single.token_scores, atol=1e-4)
        np.testing.assert_allclose(e.attention, single.attention, atol=1e-5)
        assert e.base_value == pytest.approx(single.base_value, abs=1e-4)


@pytest.mark.parametrize("kind", ["bert"], indirect=True)
def test_results_have_the_order_of_the_texts(clf):
    X = ["good " * n + "bad" for n in (9, 1, 7, 3, 5, 2)]
    expected = np.concatenate([clf.predict_proba([text]) for text in X])
    np.testing.assert_allclose(clf.predict_proba(X), expected, atol=1e-5)
    assert [e.text for e in clf.explain(X)] == X
    targets = [0, 1, 0, 1, 1, 0]
    assert [e.target for e in clf.explain(X, target=targets)] == targets


# Methods agree.


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize(
    ("n_classes", "decision"),
    [(2, lambda p: np.log(p[:, 1] / p[:, 0])), (4, np.log)],
    ids=["2 classes", "4 classes"],
)
def test_methods_agree(fitted_on, n_classes, decision, formulation):
    clf = fitted_on("bert", n_classes, False, formulation=formulation)
    X = texts_to_explain()[:8]
    p, scores = clf.predict_proba(X), clf.decision_function(X)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert p.dtype == scores.dtype == clf.transform(X).dtype == np.float64
    np.testing.assert_allclose(scores, decision(p), atol=1e-10)
    np.testing.assert_array_equal(clf.predict(X), p.argmax(axis=1))
    explanations = clf.explain(X)
    assert [e.prediction for e in explanations] == clf.predict(X).tolist()
    assert [e.target for e in explanations] == clf.predict(X).tolist()
    for e, row in zip(explanations, p, strict=True):
        assert list(e.probabilities) == list(range(n_classes))
        np.testing.assert_allclose(list(e.probabilities.values()), row, atol=1e-7)
        assert e.probability == e.probabilities[e.target]


# Explanations of proto-lm.


@pytest.fixture
def published(fitted_on, kind, n_classes) -> ProtoLMClassifier:
    return fitted_on(kind, n_classes, False, formulation="proto-lm")


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
@pytest.mark.parametrize("kind", ["bert", "gpt2"], indirect=True)
def test_scores_of_proto_lm_are_sums_over_prototypes(published, n_classes):
    X = texts_to_explain()
    p, similarities = published.predict_proba(X), published.transform(X)
    scores = np.empty((len(X), n_classes))
    for c in range(n_classes):
        for row, e in enumerate(published.explain(X, target=c)):
            assert e.space == "score"
            total = e.base_value + e.contributions.sum()
            assert total == pytest.approx(e.score, rel=1e-9)
            weights = published.prototypes_.weights[c]
            np.testing.assert_allclose(
                e.contributions, weights * e.similarities, rtol=1e-9
            )
            np.testing.assert_allclose(e.similarities, similarities[row], rtol=1e-6)
            scores[row, c] = e.score
    np.testing.assert_allclose(softmax(scores, axis=1), p, atol=1e-5)
    for e, row in zip(published.explain(X), log_softmax(scores, axis=1), strict=True):
        k = e.prediction
        rivals = np.log(np.exp(np.delete(row, k)).sum())
        assert e.log_odds == pytest.approx(row[k] - rivals, abs=1e-5)


@pytest.mark.parametrize("kind", ["bert"], indirect=True)
@pytest.mark.parametrize("n_classes", [2], indirect=True)
def test_similarities_of_proto_lm_have_no_split_over_tokens(published):
    [e] = published.explain(["the food was good"])
    assert e.token_method == "relevance"  # which is not an exact sum
    assert e.tokens == ("the", "food", "was", "good")
    with pytest.raises(ValueError, match="no exact split over tokens"):
        _ = e.token_similarities
    with pytest.raises(ValueError, match="no exact split over tokens"):
        e.alignment(0)


@pytest.mark.parametrize(
    ("formulation", "message"),
    [
        ("mixture", "split over pairs of tokens"),
        ("proto-lm", "no exact split over tokens"),
    ],
)
def test_learned_vectors_have_no_alignment(fitted_on, formulation, message):
    clf = fitted_on("bert", 2, False, formulation=formulation, projection=False)
    [e] = clf.explain(["the food was good"])
    with pytest.raises(ValueError, match=message):
        e.alignment(0)


def test_token_sums_of_learned_vectors_are_exact(fitted_on):
    clf = fitted_on("bert", 2, False, projection=False)
    [e] = clf.explain(["the food was good"], token_method="decomposition")
    sums = e.token_similarities.sum(axis=0)
    np.testing.assert_allclose(sums, e.similarities, atol=1e-4)
    total = e.base_value + e.token_scores.sum()
    assert total == pytest.approx(e.log_odds, abs=1e-5)


# Rounded probabilities of 1 have no log-odds, and a distance of 0 has no inverse.


def assert_extreme(clf: ProtoLMClassifier, X: list[Any]) -> None:
    assert np.isfinite(clf.predict_proba(X)).all()
    log_odds = clf.decision_function(X)
    assert np.isfinite(log_odds).all()
    assert abs(log_odds).max() > 37, "the test needs a probability that rounds to 1"
    for e, expected in zip(clf.explain(X, target=1), log_odds, strict=True):
        assert e.log_odds == pytest.approx(expected, rel=1e-5, abs=1e-4)
        assert np.isfinite(e.contributions).all()
        assert np.isfinite(e.base_value)


@pytest.mark.parametrize("sharpness", [0.01, 200.0, 1e6])
def test_extreme_confidence_is_finite_and_exact(fitted_on, sharpness):
    clf = fitted_on("bert", 2, False, sharpness=sharpness)
    for layer in (clf._fitted.network.layer, clf._fitted.layer):
        layer.readout.log_concentration.fill_(8.0)  # κ = 3000, more than is learned
    X = [*clf.prototypes_.texts, *texts_to_explain()[:6]]
    assert_extreme(clf, X)
    for e in clf.explain(X, target=1, token_method="decomposition"):
        assert e.contributions.sum() == pytest.approx(1)
        size = abs(e.token_scores).sum() + abs(e.base_value)
        total = e.base_value + e.token_scores.sum()
        assert total == pytest.approx(e.log_odds, abs=1e-5 * max(size, 1))


def test_extreme_confidence_of_proto_lm_is_finite_and_exact(fitted_on):
    clf = fitted_on("bert", 2, False, formulation="proto-lm")
    X = [*clf.prototypes_.texts, *texts_to_explain()[:6]]
    assert_extreme(clf, X)
    for e in clf.explain(X, target=1):
        assert e.base_value + e.contributions.sum() == pytest.approx(e.score)


# The real encoder.


@pytest.mark.real
def test_explanations_of_film_reviews_are_exact():
    X, y = load_rotten_tomatoes(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(X))
    train, test = order[:64], order[64:72]
    clf = ProtoLMClassifier(n_prototypes=3, max_epochs=1, random_state=0)
    clf.fit([X[i] for i in train], y[train])
    new = [X[i] for i in test]
    assert_exact(clf, new)
    assert_exact(clf, new, 0)
    alone = np.concatenate([clf.predict_proba([text]) for text in new])
    np.testing.assert_allclose(clf.predict_proba(new), alone, atol=1e-5)
    texts = list(clf.prototypes_.texts)
    np.testing.assert_allclose(np.diag(clf.transform(texts)), 1, atol=1e-5)
