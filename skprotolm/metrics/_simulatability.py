"""Simulatability: whether explanations help to predict the model's decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from skprotolm._config import COUNT, FOLDS, require
from skprotolm._explaining.explain import explain
from skprotolm._fitted import fitted_classifier
from skprotolm._records.explanations import Explanations


@dataclass(frozen=True, eq=False)
class Simulatability:
    """How well a student model predicts a model's decisions on held-out texts.

    Attributes
    ----------
    from_text : ndarray of shape (n,), bool
        Which decisions it predicts correctly from the texts alone.
    from_prototypes : ndarray of shape (n,), bool
        Which it predicts correctly from the texts of the top prototypes.
    """

    __module__ = "skprotolm.metrics"

    from_text: np.ndarray
    from_prototypes: np.ndarray

    @property
    def gain(self) -> float:
        """The student's accuracy from prototypes minus that from texts."""
        return float(self.from_prototypes.mean() - self.from_text.mean())


@np.errstate(under="ignore")
def simulatability(
    clf: Any, X: Any, *, k: int = 3, n_splits: int = 5, random_state: Any = None
) -> Simulatability:
    """Measure whether a simple student model can predict decisions from prototypes.

    The student, a logistic regression on bags of words, learns the model's decisions in
    cross-validation: once from the texts, and once from the texts of the k prototypes
    with the largest contributions to each decision, without their labels. In contrast
    to Pruthi et al. 2022, "Evaluating Explanations: How Much Do Explanations from the
    Teacher Aid Students?", the student has explanations of the held-out texts as well,
    so the result measures how clearly prototypes indicate the decision.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n
        Texts that the classifier was not trained on.
    k : int, default=3
        The number of prototypes per text.
    n_splits : int, default=5
        The number of folds.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds.

    Returns
    -------
    Simulatability
        Which decisions the student predicts correctly, from texts and from prototypes.

    Raises
    ------
    ValueError
        If fewer than two classes are predicted for X, or any of them for fewer than
        `n_splits` texts, or `k` or `n_splits` is invalid.
    """
    require("k", k, COUNT)
    require("n_splits", n_splits, FOLDS)
    model = fitted_classifier(clf)
    explanations = explain(model, model.texts_of(X))
    check_decisions(explanations, n_splits)
    return simulate(explanations, k, n_splits, random_state)


def check_decisions(explanations: Explanations, n_splits: int) -> None:
    """Raise an error if stratified folds of the decisions are not possible."""
    labels, counts = np.unique([e.prediction for e in explanations], return_counts=True)
    if len(labels) < 2 or counts.min() < n_splits:
        decisions = dict(zip(labels.tolist(), counts.tolist(), strict=True))
        raise ValueError(
            f"Simulatability needs {n_splits} texts or more of each predicted class, "
            f"and two predicted classes; the predictions for X are {decisions}. Pass "
            f"more texts."
        )


def simulate(
    explanations: Explanations, k: int, n_splits: int, random_state: Any
) -> Simulatability:
    """Compare the student's predictions with the decisions on explained texts."""
    decisions = np.array([e.prediction for e in explanations])
    texts = [_as_one_text(e.text) for e in explanations]
    prototype_texts = [
        " ".join(_as_one_text(e.prototype_texts[j]) for j in e.order[:k])
        for e in explanations
    ]
    folds = StratifiedKFold(n_splits, shuffle=True, random_state=random_state)
    splits = list(folds.split(np.zeros(len(texts)), decisions))
    vectorizer = TfidfVectorizer(token_pattern=r"\S+")  # words of all scripts
    student = make_pipeline(vectorizer, LogisticRegression(max_iter=1000))
    is_correct = []
    for inputs in (texts, prototype_texts):
        # The texts of redacted prototypes may be empty, which vectorizers reject.
        has_words = all(any(inputs[i].strip() for i in train) for train, _ in splits)
        predictor = student if has_words else DummyClassifier()
        predicted = cross_val_predict(predictor, inputs, decisions, cv=splits)
        is_correct.append(predicted == decisions)
    return Simulatability(*is_correct)


def _as_one_text(text: str | tuple[str, str]) -> str:
    return text if isinstance(text, str) else " ".join(text)
