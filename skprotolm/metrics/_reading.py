"""Measures of quoted texts: how similar they are to the explained text.

Similarity is the cosine f in the pretrained encoder, before fine-tuning, as a model of
how similar two texts are to a reader.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from skprotolm._explaining.explain import explain
from skprotolm._fitted import fitted_classifier
from skprotolm._network.loading import frozen_vectors
from skprotolm._records.explanations import Explanations
from skprotolm._records.prototypes import Prototypes

_COSINE_TOLERANCE = 1e-6  # cosines that differ by less are equal


@np.errstate(under="ignore")
def reading_gain(clf: Any, X: Any, *, encoder: Any = None) -> np.ndarray:
    """Measure whether the top prototype's text is similar to the explained text.

    Similarity f is the cosine in the pretrained encoder, before fine-tuning, as a model
    of how similar two texts are to a reader. With j the prototype of the largest
    contribution, the gain of a text x is

        (f(x, j) − mean of f(x, i)) / (max of f(x, i) − mean of f(x, i)),

    with mean and maximum over the prototypes i of j's class.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n
        Texts that the classifier was not trained on.
    encoder : str, path or SentenceTransformer, default=None
        The encoder of f; by default the classifier's ``backbone`` before the fit.

    Returns
    -------
    ndarray of shape (n,), float64
        Higher is better. 1 if no prototype of the class is more similar to the text;
        0 is the expected gain of a random prototype of the class. NaN if the class has
        only one prototype, or all are equally similar, or the top prototype is
        redacted. Other redacted prototypes are left out.

    Raises
    ------
    BackboneNotFoundError
        If the encoder is not found.

    Examples
    --------
    >>> np.nanmean(reading_gain(clf, X_test))  # doctest: +SKIP
    0.81
    """
    encoder = clf.backbone if encoder is None else encoder
    model = fitted_classifier(clf)
    explanations = explain(model, model.texts_of(X))
    return reading_gains(explanations, model.prototypes, encoder)


def reading_gains(
    explanations: Explanations, prototypes: Prototypes, encoder: Any
) -> np.ndarray:
    """Return the reading gain of each explained text, (n,)."""
    texts = [e.text for e in explanations]
    vectors = frozen_vectors(encoder, [*texts, *prototypes.texts])
    vectors, quoted = vectors[: len(texts)], vectors[len(texts) :]
    is_readable = ~prototypes.redacted
    gains = np.full(len(explanations), np.nan)
    for row, e in enumerate(explanations):
        top = e.contributions.argmax()
        if not is_readable[top]:
            continue
        is_same_class = prototypes.labels == prototypes.labels[top]
        cosines = quoted[is_readable & is_same_class] @ vectors[row]
        gains[row] = _relative(quoted[top] @ vectors[row], cosines)
    return gains


@np.errstate(under="ignore")
def reading_distance(
    clf: Any, X: Any, X_train: Any, y_train: Any, *, encoder: Any = None
) -> np.ndarray:
    """Measure how close the top prototype's text is to the nearest training text.

    Similarity f is as in `reading_gain`. With j the prototype of the largest
    contribution, the value of a text x is

        (f(x, j) − mean of f(x, i)) / (max of f(x, i) − mean of f(x, i)),

    with mean and maximum over the *training texts* i of j's class. `reading_gain`
    compares with the other prototypes only, so that a few prototypes that are all
    unlike the text can have a high gain.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n
        Texts that the classifier was not trained on.
    X_train : container of str, length m
        The training texts.
    y_train : array-like of shape (m,)
        Their labels, from ``classes_``.
    encoder : str, path or SentenceTransformer, default=None
        The encoder of f; by default the classifier's ``backbone`` before the fit.

    Returns
    -------
    ndarray of shape (n,), float64
        Higher is better. 1 if no training text of the class is more similar to the text
        than the quoted one; 0 is the expected value of a random training text. NaN if
        the top prototype is redacted, or X_train has no texts of its class that differ
        in similarity.

    Raises
    ------
    ValueError
        If y_train contains other labels or has another length than X_train.
    BackboneNotFoundError
        If the encoder is not found.

    Examples
    --------
    >>> reading_distance(clf, X_test, X_train, y_train).mean()  # doctest: +SKIP
    0.78
    """
    model = fitted_classifier(clf)
    texts: Any = model.texts_of(X)
    training: Any = model.texts_of(X_train, name="X_train")
    codes = model.task.encode(y_train, "y_train", len(training))
    tops = model.top_prototypes(texts)
    quoted = [model.quotes.texts[top] for top in tops]
    encoder = clf.backbone if encoder is None else encoder
    vectors = frozen_vectors(encoder, [*texts, *quoted, *training])
    vectors, to, others = np.split(vectors, [len(texts), 2 * len(texts)])
    distances = np.full(len(texts), np.nan)
    values = model.layer.values.numpy()[tops]
    for row in np.flatnonzero(~model.quotes.redacted[tops]):
        cosines = others[codes == values[row]] @ vectors[row]
        distances[row] = _relative(to[row] @ vectors[row], cosines)
    return distances


def _relative(cosine: float, others: np.ndarray) -> float:
    """Return where a cosine lies between the mean (0) and the maximum (1) of others."""
    if not len(others) or others.max() - others.mean() <= _COSINE_TOLERANCE:
        return np.nan
    return float((cosine - others.mean()) / (others.max() - others.mean()))
