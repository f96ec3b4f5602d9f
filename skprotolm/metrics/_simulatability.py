"""Simulatability: whether explanations help to foresee what the model says."""

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
from skprotolm._records.explanations import Explanations


@dataclass(frozen=True, eq=False)
class Simulatability:
    """How well a student foresees a model's decisions on texts it was not shown.

    Attributes
    ----------
    from_text : ndarray of shape (n,), bool
        Which decisions it foresees from the texts alone.
    from_prototypes : ndarray of shape (n,), bool
        Which it foresees from the texts of the prototypes that explanations list.
    """

    __module__ = "skprotolm.metrics"

    from_text: np.ndarray
    from_prototypes: np.ndarray

    @property
    def gain(self) -> float:
        """The accuracy that the prototypes add."""
        return float(self.from_prototypes.mean() - self.from_text.mean())


@np.errstate(under="ignore")
def simulatability(
    clf: Any, X: Any, *, k: int = 3, n_splits: int = 5, random_state: Any = None
) -> Simulatability:
    """Measure by proxy whether prototypes help to foresee the model's decisions.

    A simple student (bag of words, logistic regression) learns the model's decisions,
    once from the texts alone, once from the texts of the k prototypes that carry most
    of each, whose labels it is not told; it is asked about texts of the folds that it
    did not learn from (compare Pruthi et al. 2022, "Evaluating Explanations: How Much
    Do Explanations from the Teacher Aid Students?", where the student has no
    explanations of the texts that it is asked about; here it has, so that the measure
    says how plainly the quoted texts tell the decision).

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n
        Texts that it was not trained on.
    k : int, default=3
        Prototypes a text.
    n_splits : int, default=5
        Folds.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds.

    Returns
    -------
    Simulatability
        Which decisions the student foresees, from texts and from prototypes.

    Raises
    ------
    ValueError
        If the decisions on X are fewer than `n_splits` of any class, or all the same,
        or `k` is no count, or `n_splits` no number of folds.
    """
    require("k", k, COUNT)
    require("n_splits", n_splits, FOLDS)
    explanations = clf.explain(X)
    decisions = np.array([e.prediction for e in explanations])
    missing = what_folds_lack(decisions, n_splits)
    if missing:
        raise ValueError(missing)
    return simulate(explanations, k, n_splits, random_state)


def what_folds_lack(decisions: np.ndarray, n_splits: int) -> str | None:
    """Say why the folds could not divide decisions, if they cannot."""
    labels, counts = np.unique(decisions, return_counts=True)
    if len(labels) > 1 and counts.min() >= n_splits:
        return None
    found = dict(zip(labels.tolist(), counts.tolist(), strict=True))
    return (
        f"To simulate decisions takes {n_splits} texts or more of each class that "
        f"is predicted, and two such classes; the predictions for X are {found}. "
        f"Pass more texts."
    )


def simulate(
    explanations: Explanations, k: int, n_splits: int, random_state: Any
) -> Simulatability:
    """Let a student foresee the decisions on texts that are explained already."""
    decisions = np.array([e.prediction for e in explanations])
    texts = [_flat(e.text) for e in explanations]
    quoted = [" ".join(_flat(p.text) for p in e.prototypes[:k]) for e in explanations]
    folds = StratifiedKFold(n_splits, shuffle=True, random_state=random_state)
    split = list(folds.split(np.zeros(len(texts)), decisions))
    words = TfidfVectorizer(token_pattern=r"\S+")  # of any script
    reader = make_pipeline(words, LogisticRegression(max_iter=1000))
    foreseen = []
    for source in (texts, quoted):
        # Where prototypes are redacted there may be nothing to read.
        can_read = all(any(source[i].strip() for i in train) for train, _ in split)
        student = reader if can_read else DummyClassifier()
        foreseen.append(cross_val_predict(student, source, decisions, cv=split))
    return Simulatability(*(found == decisions for found in foreseen))


def _flat(text: str | tuple[str, str]) -> str:
    return text if isinstance(text, str) else " ".join(text)
