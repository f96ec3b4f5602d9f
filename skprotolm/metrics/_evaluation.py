"""All measures of a classifier's explanations in one frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import bootstrap

from skprotolm._display import as_frame
from skprotolm._inputs import as_texts
from skprotolm._parameters import COUNT, require
from skprotolm.metrics._faithfulness import (
    measure_prototypes,
    measure_words,
    random_scores,
)
from skprotolm.metrics._simulatability import simulate

_FOLDS = 5  # of simulatability


def evaluate_explanations(
    clf: Any,
    X: Any,
    *,
    token_method: str = "auto",
    k: int = 3,
    n_resamples: int = 999,
    random_state: Any = 0,
) -> Any:
    """Measure a classifier's explanations, each beside its random baseline.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n
        Texts that it was not trained on; of each class that is predicted, five or more.
    token_method : str, default="auto"
        How words are scored; see `ProtoLMClassifier.explain`.
    k : int, default=3
        Prototypes that are dropped, kept, or shown to the student.
    n_resamples : int, default=999
        Bootstrap resamples of the texts.
    random_state : int, default=0
        Seed of baselines, folds and resamples.

    Returns
    -------
    pandas.DataFrame
        One row a measure: ``measure``, ``better`` ("higher" or "lower"), ``protocol``,
        ``removal``, ``value``, the ends of its 95 % interval ``low`` and ``high``, and
        the mean ``baseline``: of random words or prototypes, and of simulatability what
        the text alone gives.

    Raises
    ------
    ValueError
        If the predictions for X are all the same, or fewer than five of a class; if
        `k` is no count.
    MissingExtraError
        If pandas is not installed.
    """
    require("k", k, COUNT)
    as_frame([])  # before the long work: is pandas there?
    texts = as_texts(X)
    _require_enough(clf.predict(texts))
    explanations = clf.explain(texts, token_method=token_method)
    scores: Any = [e.word_scores for e in explanations]
    at_random = random_scores(explanations, random_state)
    rows = []

    def add(measure: str, protocol: str, removal: str, values: Any, base: Any) -> None:
        low, high = _interval(values, n_resamples, random_state)
        rows.append(
            {
                "measure": measure,
                "better": "lower" if measure.endswith("sufficiency") else "higher",
                "protocol": protocol,
                "removal": removal,
                "value": float(np.mean(values)),
                "low": low,
                "high": high,
                "baseline": float(np.mean(base)),
            }
        )

    for name, keep in (("comprehensiveness", False), ("sufficiency", True)):
        for protocol in ("eraser", "ferret"):
            for removal in ("delete", "mask"):
                values, base = (
                    measure_words(
                        clf, explanations, ranked, protocol, removal, keep=keep
                    )
                    for ranked in (scores, at_random)
                )
                add(name, protocol, removal, values, base)
        values, base = (
            measure_prototypes(clf, explanations, k, ranking, random_state, keep=keep)
            for ranking in ("share", "random")
        )
        add(f"prototype_{name}", f"{k} prototypes", "remove", values, base)
    found = simulate(explanations, k, _FOLDS, random_state)
    told, alone = found.from_prototypes.astype(float), found.from_text
    add("simulatability", f"{k} prototypes", "", told, alone)
    return as_frame(rows)


def _require_enough(predictions: Any) -> None:
    """Refuse what simulatability's folds could not divide, before the long work."""
    labels, counts = np.unique(predictions, return_counts=True)
    if len(labels) < 2 or counts.min() < _FOLDS:
        raise ValueError(
            f"X needs {_FOLDS} texts or more of each class that is predicted, and two "
            f"such classes; the predictions are "
            f"{dict(zip(labels.tolist(), counts.tolist(), strict=True))}. Pass more "
            f"texts, or call the measures one by one."
        )


def _interval(
    values: np.ndarray, n_resamples: int, random_state: Any
) -> tuple[float, float]:
    if np.ptp(values) == 0:  # nothing to resample
        return float(values[0]), float(values[0])
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=n_resamples,
        method="percentile",
        rng=np.random.default_rng(random_state),
    )
    interval = found.confidence_interval
    return float(interval.low), float(interval.high)
