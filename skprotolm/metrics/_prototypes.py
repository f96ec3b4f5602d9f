"""Prototypes worth reading: pure, distinct, few a prediction, alike in the reading."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from skprotolm._config import COUNT, FRACTION, require
from skprotolm._data.targets import one_code_each
from skprotolm._network.loading import frozen_vectors
from skprotolm._records.explanations import Explanations
from skprotolm._training.neighborhoods import N_NEIGHBORS, distinct_ids

# Prototypes whose likeness to a text differs by less are equally like it.
_NO_CHOICE = 1e-6


@np.errstate(under="ignore")
def prototype_purity(
    clf: Any, X: Any = None, y: Any = None, *, k: int = N_NEIGHBORS
) -> np.ndarray:
    """Measure how many of the texts around each prototype are of its class.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n, default=None
        Texts to look at, which may be those of the fit or others; a prototype's own
        text does not count. Without them the figures of the fit, `Prototypes.purities`,
        are returned.
    y : array-like of shape (n,), default=None
        Their labels, of ``classes_``.
    k : int, default=10
        How many nearest texts are looked at; of a class with fewer others in X, as many
        as there are.

    Returns
    -------
    ndarray of shape (M,), float64
        Shares between 0 and 1, higher is better; NaN where X has no other text of the
        class, and where the prototype's own text is redacted.

    Raises
    ------
    ValueError
        If one of X and y is missing, y does not fit, or `k` is no count.

    Examples
    --------
    >>> prototype_purity(clf, X_test, y_test).mean()  # doctest: +SKIP
    0.97
    """
    require("k", k, COUNT)
    prototypes = clf.prototypes_
    if X is None and y is None:
        return prototypes.purities.copy()
    if X is None or y is None:
        raise ValueError("X and y belong together: pass both, or neither.")
    state = clf._fitted_model()
    texts = state.texts_of(X)
    codes = one_code_each(clf.classes_, "y", y, len(texts))
    own = np.searchsorted(clf.classes_, prototypes.labels)
    tokenized = state.tokenize(texts)
    similarities = state.read(tokenized, state.layer)[0].numpy()
    ids = distinct_ids([*state.quoted.keys, *tokenized.keys])
    quoted, ids = ids[: len(prototypes)], ids[len(prototypes) :]
    found = np.full(len(prototypes), np.nan)
    for j in np.flatnonzero(~prototypes.redacted):
        others = np.flatnonzero(ids != quoted[j])
        asked = min(k, np.count_nonzero(codes[others] == own[j]))
        if asked:
            nearest = np.argsort(-similarities[others, j], kind="stable")[:asked]
            found[j] = np.mean(codes[others[nearest]] == own[j])
    return found


@np.errstate(under="ignore")
def prototype_uniqueness(clf: Any) -> float:
    """Measure how many of the quoted texts are distinct to the encoder.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.

    Returns
    -------
    float
        Distinct quoted texts over prototypes, at most 1, which is best. Redacted
        prototypes are left out; NaN where all are.
    """
    ids = distinct_ids(clf._fitted_model().quoted.keys)[~clf.prototypes_.redacted]
    return len(np.unique(ids)) / len(ids) if len(ids) else math.nan


@np.errstate(under="ignore")
def prototype_diversity(clf: Any) -> np.ndarray:
    """Measure how far each prototype is from the nearest other one of its class.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.

    Returns
    -------
    ndarray of shape (M,), float64
        1 minus the largest cosine to another prototype of the class, between 0 and 2,
        higher is better; NaN where a class has one prototype.
    """
    prototypes = clf.prototypes_
    vectors = prototypes.vectors.astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    mates = prototypes.labels[:, None] == prototypes.labels[None, :]
    np.fill_diagonal(mates, False)
    nearest = np.where(mates, cosines, -np.inf).max(axis=1)
    return np.where(mates.any(axis=1), 1 - nearest, np.nan)


@np.errstate(under="ignore")
def explanation_compactness(clf: Any, X: Any, *, mass: float = 0.9) -> np.ndarray:
    """Count the prototypes that carry most of an explanation.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n
        Texts, as in `ProtoLMClassifier.fit`.
    mass : float, default=0.9
        The share of the contributions that they carry together; under
        ``formulation="proto-lm"`` of the contributions' absolute values.

    Returns
    -------
    ndarray of shape (n,), int64
        Prototypes a text, lower is better.

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
    return count_carriers(clf.explain(X), mass)


def count_carriers(explanations: Explanations, mass: float) -> np.ndarray:
    """Count the prototypes that carry `mass` of each explanation, (n,)."""
    contributions = np.abs([e.contributions for e in explanations])
    largest_first = -np.sort(-contributions, axis=1)
    carried = largest_first.cumsum(axis=1) / largest_first.sum(axis=1, keepdims=True)
    return 1 + (carried < mass).sum(axis=1)


@np.errstate(under="ignore")
def reading_gain(clf: Any, X: Any, *, encoder: Any = None) -> np.ndarray:
    """Measure whether the text that is quoted first reads like the text explained.

    With f the cosine in the pretrained encoder, before any fine-tuning, and j the
    prototype of the largest contribution:

        (f(x, j) − mean of f(x, i)) / (max of f(x, i) − mean of f(x, i)),

    mean and maximum over the prototypes i of j's class.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n
        Texts that it was not trained on.
    encoder : str, path or SentenceTransformer, default=None
        What judges the reading; by default the classifier's own ``backbone``, as it
        was before the fit.

    Returns
    -------
    ndarray of shape (n,), float64
        1: no prototype of the class reads more like the text. 0: it is no nearer in
        reading than any of its class, which random ones reach in the mean. NaN where
        there is nothing to choose: one prototype, or all equally near. Redacted
        prototypes are left out.

    Raises
    ------
    BackboneNotFoundError
        If the encoder is not to be found.

    Examples
    --------
    >>> np.nanmean(reading_gain(clf, X_test))  # doctest: +SKIP
    0.81
    """
    explanations = clf.explain(X)
    return gain_in_reading(
        explanations, clf, clf.backbone if encoder is None else encoder
    )


def gain_in_reading(explanations: Explanations, clf: Any, encoder: Any) -> np.ndarray:
    """Return the reading gain of texts that are explained already, (n,)."""
    prototypes = clf.prototypes_
    texts = [e.text for e in explanations]
    vectors = frozen_vectors(encoder, [*texts, *prototypes.texts])
    likeness = vectors[: len(texts)] @ vectors[len(texts) :].T
    top = np.argmax([e.contributions for e in explanations], axis=1)
    readable = ~prototypes.redacted
    found = np.full(len(texts), np.nan)
    for row, j in enumerate(top):
        if not readable[j]:
            continue
        mine = likeness[row, readable & (prototypes.labels == prototypes.labels[j])]
        room = mine.max() - mine.mean()
        if room > _NO_CHOICE:
            found[row] = (likeness[row, j] - mine.mean()) / room
    return found


@np.errstate(under="ignore")
def seed_stability(clf: Any, other: Any, *, encoder: Any = None) -> np.ndarray:
    """Measure how alike two fits' prototypes are in the reading.

    Inside each class the prototypes of one fit are matched one-to-one to those of the
    other, at the largest sum of cosines in the pretrained encoder, before any
    fine-tuning.

    Parameters
    ----------
    clf, other : ProtoLMClassifier
        Two fitted classifiers with the same classes, of two seeds, say.
    encoder : str, path or SentenceTransformer, default=None
        What judges the reading; by default the ``backbone`` of `clf`.

    Returns
    -------
    ndarray of shape (number of matched pairs,), float64
        The cosine of each matched pair, class after class; 1 is the same text. Where
        one fit has more prototypes of a class, those left over are not matched, nor are
        redacted ones.

    Raises
    ------
    ValueError
        If the classes differ.
    BackboneNotFoundError
        If the encoder is not to be found.

    Examples
    --------
    >>> one, two = (
    ...     ProtoLMClassifier(random_state=seed).fit(X, y) for seed in (0, 1)
    ... )  # doctest: +SKIP
    >>> seed_stability(one, two).mean()  # doctest: +SKIP
    0.43
    """
    ours, theirs = clf.prototypes_, other.prototypes_
    if not np.array_equal(clf.classes_, other.classes_):
        raise ValueError(
            f"Both classifiers must have the same classes, got "
            f"{clf.classes_.tolist()[:5]} and {other.classes_.tolist()[:5]}."
        )
    judge = clf.backbone if encoder is None else encoder
    vectors = frozen_vectors(judge, [*ours.texts, *theirs.texts])
    cosines = vectors[: len(ours)] @ vectors[len(ours) :].T
    matched = []
    for label in clf.classes_:
        rows, columns = (
            ~fit.redacted & (fit.labels == label) for fit in (ours, theirs)
        )
        block = cosines[np.ix_(rows, columns)]
        matched.append(block[linear_sum_assignment(-block)])
    return np.concatenate(matched)
