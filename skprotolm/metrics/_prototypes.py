"""Measures of prototypes: purity, diversity, compactness and stability."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from skprotolm._config import COUNT, FRACTION, require
from skprotolm._explaining.explain import explain
from skprotolm._fitted import FittedModel, fitted_classifier, fitted_model
from skprotolm._network.blocks import row_blocks
from skprotolm._network.loading import frozen_vectors
from skprotolm._records.explanations import Explanations
from skprotolm._training.neighborhoods import N_NEIGHBORS, distinct_ids


@np.errstate(under="ignore")
def prototype_purity(
    clf: Any, X: Any = None, y: Any = None, *, k: int = N_NEIGHBORS
) -> np.ndarray:
    """Measure the share of each prototype's class among its nearest texts.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n, default=None
        Training texts or others. Texts equal to a prototype's own text are not
        counted. By default, return the purity at the fit, `Prototypes.purities`.
    y : array-like of shape (n,), default=None
        Their labels, from ``classes_``.
    k : int, default=10
        The number of nearest texts, at most the number of other texts of the class.

    Returns
    -------
    ndarray of shape (M,), float64
        Shares between 0 and 1. Higher is better. NaN if X has no other text of the
        class, and for redacted prototypes.

    Raises
    ------
    ValueError
        If only one of X and y is passed, y does not match X, or `k` is not a positive
        int.

    Examples
    --------
    >>> prototype_purity(clf, X_test, y_test).mean()  # doctest: +SKIP
    0.97
    """
    require("k", k, COUNT)
    model = fitted_classifier(clf)
    prototypes = model.prototypes
    if X is None and y is None:
        return prototypes.purities.copy()
    if X is None or y is None:
        raise ValueError("X and y must be passed together.")
    texts = model.texts_of(X)
    codes = model.task.encode(y, "y", len(texts))
    prototype_codes = model.layer.values.numpy()
    tokenized = model.tokenize(texts)
    [s] = model.read(tokenized, lambda s: (s,))
    ids = distinct_ids([*model.quoted.keys, *tokenized.keys])
    prototype_ids, ids = ids[: len(prototypes)], ids[len(prototypes) :]
    purity = np.full(len(prototypes), np.nan)
    for rows in row_blocks(len(prototypes), len(texts)):
        numbers = np.arange(len(prototypes))[rows]
        similarities = model.similarities_of(s, numbers)
        for j, column in zip(numbers.tolist(), similarities.T, strict=True):
            others = np.flatnonzero(ids != prototype_ids[j])
            is_same_class = codes[others] == prototype_codes[j]
            n_neighbors = min(k, np.count_nonzero(is_same_class))
            if n_neighbors and not prototypes.redacted[j]:
                order = np.argsort(-column[others], kind="stable")
                purity[j] = is_same_class[order[:n_neighbors]].mean()
    return purity


@np.errstate(under="ignore")
def prototype_uniqueness(clf: Any) -> float:
    """Measure the share of prototypes whose texts are distinct to the encoder.

    Parameters
    ----------
    clf : ProtoLMClassifier or ProtoLMRegressor
        A fitted estimator.

    Returns
    -------
    float
        The number of distinct texts divided by the number of prototypes, without
        redacted ones. Higher is better, at most 1. NaN if all are redacted.
    """
    return uniqueness(fitted_model(clf))


def uniqueness(model: FittedModel) -> float:
    """Return the share of distinct texts among the prototypes' texts."""
    ids = distinct_ids(model.quoted.keys)[~model.prototypes.redacted]
    return len(np.unique(ids)) / len(ids) if len(ids) else math.nan


@np.errstate(under="ignore")
def prototype_diversity(clf: Any) -> np.ndarray:
    """Measure the distance from each prototype to the nearest other one of its class.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.

    Returns
    -------
    ndarray of shape (M,), float64
        1 minus the largest cosine to another prototype of the class, between 0 and 2.
        Higher is better. NaN if the class has only one prototype.
    """
    prototypes = fitted_classifier(clf).prototypes
    vectors = prototypes.vectors.astype(np.float64)
    unit_vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    codes = np.unique(prototypes.labels, return_inverse=True)[1]
    largest = np.full(len(codes), -np.inf)
    for rows in row_blocks(len(codes), len(codes)):
        is_same_class = codes[rows, None] == codes
        is_same_class[np.arange(len(is_same_class)), np.arange(len(codes))[rows]] = (
            False
        )
        cosines = unit_vectors[rows] @ unit_vectors.T
        largest[rows] = np.where(is_same_class, cosines, -np.inf).max(axis=1)
    return np.where(np.isneginf(largest), np.nan, 1 - largest)


@np.errstate(under="ignore")
def explanation_compactness(clf: Any, X: Any, *, mass: float = 0.9) -> np.ndarray:
    """Count the prototypes with most of the contributions to each prediction.

    Parameters
    ----------
    clf : ProtoLMClassifier or ProtoLMRegressor
        A fitted estimator.
    X : container of str, length n
        Texts, as in `ProtoLMClassifier.fit`.
    mass : float, default=0.9
        The share of the sum of contributions (of a regressor, of shares) that these
        prototypes reach; of absolute contributions under ``formulation="proto-lm"``.

    Returns
    -------
    ndarray of shape (n,), int64
        The number of prototypes per text. Lower is better.

    Raises
    ------
    ValueError
        If `mass` is not in (0, 1).

    Examples
    --------
    >>> np.median(explanation_compactness(clf, X_test))  # doctest: +SKIP
    5.0
    """
    require("mass", mass, FRACTION)
    model = fitted_model(clf)
    return compactness(explain(model, model.units_of(X)), mass)


def compactness(explanations: Explanations, mass: float) -> np.ndarray:
    """Count the prototypes that reach `mass` of each explanation, (n,)."""
    return np.array([_n_with_mass(np.abs(e.ranking), mass) for e in explanations], int)


def _n_with_mass(sizes: np.ndarray, mass: float) -> int:
    largest_first = -np.sort(-sizes)
    shares = largest_first.cumsum() / largest_first.sum()
    return 1 + int((shares < mass).sum())


@np.errstate(under="ignore")
def seed_stability(clf: Any, other: Any, *, encoder: Any = None) -> np.ndarray:
    """Measure how similar the prototypes of two fits are.

    The prototypes of each class are matched one-to-one, with the largest sum of cosines
    in the pretrained encoder, before fine-tuning.

    Parameters
    ----------
    clf, other : ProtoLMClassifier
        Two fitted classifiers with the same classes, for example of two seeds.
    encoder : str, path or SentenceTransformer, default=None
        The encoder of the cosines; by default the ``backbone`` of `clf`.

    Returns
    -------
    ndarray of shape (number of matched pairs,), float64
        The cosine of each matched pair, in the order of the classes; 1 for equal texts.
        If one fit has more prototypes of a class, the remaining ones are not matched.
        Redacted prototypes are left out.

    Raises
    ------
    ValueError
        If the classes differ.
    BackboneNotFoundError
        If the encoder is not found.

    Examples
    --------
    >>> one, two = (
    ...     ProtoLMClassifier(random_state=seed).fit(X, y) for seed in (0, 1)
    ... )  # doctest: +SKIP
    >>> seed_stability(one, two).mean()  # doctest: +SKIP
    0.43
    """
    fits = fitted_classifier(clf).prototypes, fitted_classifier(other).prototypes
    if not np.array_equal(clf.classes_, other.classes_):
        raise ValueError(
            f"Both classifiers must have the same classes, got "
            f"{clf.classes_.tolist()[:5]} and {other.classes_.tolist()[:5]}."
        )
    encoder = clf.backbone if encoder is None else encoder
    vectors = frozen_vectors(encoder, [*fits[0].texts, *fits[1].texts])
    both = np.split(vectors, [len(fits[0])])
    matched = []
    for label in clf.classes_:
        is_included = [~fit.redacted & (fit.labels == label) for fit in fits]
        one, two = (v[rows] for v, rows in zip(both, is_included, strict=True))
        class_cosines = one @ two.T
        pairs = linear_sum_assignment(class_cosines, maximize=True)
        matched.append(class_cosines[pairs])
    return np.concatenate(matched)
