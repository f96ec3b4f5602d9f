"""All measures of a classifier's explanations in one frame."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from scipy.stats import bootstrap
from sklearn.utils.validation import check_is_fitted

from skprotolm._config import COUNT, require
from skprotolm._data.targets import one_code_each
from skprotolm._data.texts import as_texts
from skprotolm._display.tables import as_frame
from skprotolm._records.explanations import Explanations
from skprotolm.exceptions import BackboneNotFoundError
from skprotolm.metrics._faithfulness import (
    known_scores,
    measure_prototypes,
    measure_words,
    random_scores,
)
from skprotolm.metrics._prototypes import (
    count_carriers,
    gain_in_reading,
    prototype_diversity,
    prototype_purity,
    prototype_uniqueness,
)
from skprotolm.metrics._simulatability import simulate, what_folds_lack

_FOLDS = 5  # of simulatability


@np.errstate(under="ignore")
def evaluate_explanations(
    clf: Any,
    X: Any,
    y: Any = None,
    *,
    token_method: str = "auto",
    k: int = 3,
    n_resamples: int = 999,
    random_state: Any = 0,
) -> Any:
    """Measure a classifier's explanations and prototypes, beside random baselines.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n
        Texts that it was not trained on.
    y : array-like of shape (n,), default=None
        Their labels, by which the prototypes' purity is judged; without them it is that
        of the fit.
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
        the text alone gives. Purity, uniqueness, diversity and compactness have none
        (NaN); uniqueness, one number of all prototypes, has no interval either. Where
        each class has one prototype, nothing says which counts: reading gain, diversity
        and what prototypes are dropped or kept are NaN. Simulatability is NaN where
        fewer than five texts of a class are predicted, or one class alone, and the
        reading gain where the pretrained backbone is not to be found; a warning says
        so.

    Raises
    ------
    ValueError
        If y does not fit, `k` or `n_resamples` is no count, or `token_method` gives no
        word scores for this architecture.
    MissingExtraError
        If pandas is not installed.
    """
    require("k", k, COUNT)
    require("n_resamples", n_resamples, COUNT)
    check_is_fitted(clf)
    as_frame([])  # before the long work: is pandas there?
    if y is not None:
        one_code_each(clf.classes_, "y", y, len(as_texts(X)))
    explanations = clf.explain(X, token_method=token_method)
    scores = known_scores(explanations)
    at_random = random_scores(explanations, random_state)
    rows = []
    lower = ("sufficiency", "compactness")

    def add(measure: str, protocol: str, removal: str, values: Any, base: Any) -> None:
        values = _known(values)
        low, high = _interval(values, n_resamples, random_state)
        rows.append(
            {
                "measure": measure,
                "better": "lower" if measure.endswith(lower) else "higher",
                "protocol": protocol,
                "removal": removal,
                "value": _mean(values),
                "low": low,
                "high": high,
                "baseline": math.nan if base is None else _mean(_known(base)),
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
    told, alone = _simulated(explanations, k, random_state)
    add("simulatability", f"{k} prototypes", "", told, alone)
    add("reading_gain", "", "", _gains(explanations, clf), 0)
    add("explanation_compactness", "90 %", "", count_carriers(explanations, 0.9), None)
    add("prototype_uniqueness", "", "", prototype_uniqueness(clf), None)
    add("prototype_diversity", "", "", prototype_diversity(clf), None)
    purities = prototype_purity(clf, None if y is None else X, y)
    add("prototype_purity", "", "", purities, None)
    return as_frame(rows)


def _simulated(explanations: Explanations, k: int, random_state: Any) -> np.ndarray:
    """Return what a student foresees from prototypes, and from texts alone, (2, n)."""
    decisions = np.array([e.prediction for e in explanations])
    missing = what_folds_lack(decisions, _FOLDS)
    if missing:
        warnings.warn(f"Simulatability is NaN. {missing}", UserWarning, stacklevel=3)
        return np.full((2, 1), math.nan)
    found = simulate(explanations, k, _FOLDS, random_state)
    return np.array([found.from_prototypes, found.from_text], dtype=float)


def _gains(explanations: Explanations, clf: Any) -> Any:
    """Return the reading gains, or NaN where the pretrained encoder is not at hand."""
    try:
        return gain_in_reading(explanations, clf, clf.backbone)
    except BackboneNotFoundError as error:
        warnings.warn(f"The reading gain is NaN. {error}", UserWarning, stacklevel=3)
        return math.nan


def _known(values: Any) -> np.ndarray:
    values = np.atleast_1d(np.asarray(values, dtype=float))
    return values[~np.isnan(values)]


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _interval(
    values: np.ndarray, n_resamples: int, random_state: Any
) -> tuple[float, float]:
    if len(values) < 2:  # a single number, such as a share of all prototypes
        return math.nan, math.nan
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
