"""All measures of a classifier's explanations in one data frame."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from skprotolm._config import COUNT, require
from skprotolm._display.tables import as_frame
from skprotolm._fitted import FittedModel, fitted_classifier
from skprotolm._records.explanations import Explanations
from skprotolm.exceptions import BackboneNotFoundError
from skprotolm.metrics._faithfulness import (
    explained_scores,
    prototype_drops,
    random_scores,
    word_drops,
)
from skprotolm.metrics._prototypes import (
    compactness,
    prototype_diversity,
    prototype_purity,
    uniqueness,
)
from skprotolm.metrics._reading import reading_gains
from skprotolm.metrics._simulatability import check_decisions, simulate

_N_SPLITS = 5  # of simulatability
_LOWER_IS_BETTER = (
    "sufficiency",
    "prototype_sufficiency",
    "explanation_compactness",
)


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
    """Compute all measures of explanations and prototypes, with random baselines.

    Parameters
    ----------
    clf : ProtoLMClassifier
        A fitted classifier.
    X : container of str, length n
        Texts that the classifier was not trained on.
    y : array-like of shape (n,), default=None
        Their labels, for the purity of prototypes; by default it is the purity at the
        fit.
    token_method : str, default="auto"
        The method for word scores; see `ProtoLMClassifier.explain`.
    k : int, default=3
        The number of prototypes that are removed, kept, or passed to the student.
    n_resamples : int, default=999
        The number of bootstrap resamples of the texts.
    random_state : int, default=0
        Seed of baselines, folds and resamples.

    Returns
    -------
    pandas.DataFrame
        One row per measure, with the columns ``measure``, ``better`` ("higher" or
        "lower"), ``protocol``, ``removal``, ``value``, the ends ``low`` and ``high`` of
        its 95 % interval, and the mean ``baseline``. The baselines of comprehensiveness
        and sufficiency are random words or prototypes; that of simulatability is the
        student's accuracy from texts. Values are NaN where they are not defined:

        - the baseline of purity, uniqueness, diversity and compactness, and the
          interval of uniqueness, which is one number per classifier;
        - reading gain, diversity, and comprehensiveness and sufficiency of prototypes,
          if each class has only one prototype;
        - simulatability, if fewer than two classes are predicted, or one of them for
          fewer than five texts (with a warning);
        - reading gain, if the pretrained backbone is not found (with a warning).

    Raises
    ------
    ValueError
        If y does not match X, `k` or `n_resamples` is not a positive int, or
        `token_method` has no word scores for this architecture.
    MissingExtraError
        If pandas is not installed.
    """
    require("k", k, COUNT)
    require("n_resamples", n_resamples, COUNT)
    model = fitted_classifier(clf)
    as_frame([])  # raises before the long computation if pandas is not installed
    if y is not None:
        model.task.encode(y, "y", len(model.texts_of(X)))
    explanations = clf.explain(X, token_method=token_method)
    measures = [
        *_faithfulness(model, explanations, k, random_state),
        _simulatability(explanations, k, random_state),
        _measure("reading_gain", _reading_gains(clf, explanations), 0.0),
        _measure(
            "explanation_compactness", compactness(explanations, 0.9), protocol="90 %"
        ),
        _measure("prototype_uniqueness", uniqueness(model)),
        _measure("prototype_diversity", prototype_diversity(clf)),
        _measure(
            "prototype_purity", prototype_purity(clf, None if y is None else X, y)
        ),
    ]
    return as_frame([_with_interval(m, n_resamples, random_state) for m in measures])


def _measure(
    name: str,
    values: Any,
    baseline: Any = math.nan,
    protocol: str = "",
    removal: str = "",
) -> dict[str, Any]:
    """Return a row without its interval; values are NaN where they are not defined."""
    values = _defined(values)
    return {
        "measure": name,
        "better": "lower" if name in _LOWER_IS_BETTER else "higher",
        "protocol": protocol,
        "removal": removal,
        "value": _mean(values),
        "baseline": _mean(_defined(baseline)),
        "values": values,
    }


def _faithfulness(
    model: FittedModel, explanations: Explanations, k: int, random_state: Any
) -> Iterator[dict[str, Any]]:
    """Yield comprehensiveness and sufficiency of words and of prototypes."""
    rankings = (
        explained_scores(explanations),
        random_scores(explanations, random_state),
    )
    for name, keep in (("comprehensiveness", False), ("sufficiency", True)):
        for protocol in ("eraser", "ferret"):
            for removal in ("delete", "mask"):
                drops, baseline = (
                    word_drops(
                        model, explanations, scores, protocol, removal, keep=keep
                    )
                    for scores in rankings
                )
                yield _measure(name, drops, baseline, protocol, removal)
        drops, baseline = (
            prototype_drops(model, explanations, k, ranking, random_state, keep=keep)
            for ranking in ("share", "random")
        )
        protocol = f"{k} prototypes"
        yield _measure(f"prototype_{name}", drops, baseline, protocol, "remove")


def _simulatability(
    explanations: Explanations, k: int, random_state: Any
) -> dict[str, Any]:
    """Measure simulatability; NaN with a warning if there are too few texts."""
    protocol = f"{k} prototypes"
    try:
        check_decisions(explanations, _N_SPLITS)
    except ValueError as error:
        warnings.warn(f"Simulatability is NaN. {error}", UserWarning, stacklevel=3)
        return _measure("simulatability", math.nan, protocol=protocol)
    student = simulate(explanations, k, _N_SPLITS, random_state)
    return _measure(
        "simulatability", student.from_prototypes, student.from_text, protocol
    )


def _reading_gains(clf: Any, explanations: Explanations) -> Any:
    """Return the reading gains; NaN with a warning if the backbone is not found."""
    try:
        return reading_gains(explanations, clf.prototypes_, clf.backbone)
    except BackboneNotFoundError as error:
        warnings.warn(f"The reading gain is NaN. {error}", UserWarning, stacklevel=3)
        return math.nan


def _with_interval(
    measure: dict[str, Any], n_resamples: int, random_state: Any
) -> dict[str, Any]:
    """Return the row of the data frame."""
    values, baseline = measure.pop("values"), measure.pop("baseline")
    low, high = _interval(values, n_resamples, random_state)
    return {**measure, "low": low, "high": high, "baseline": baseline}


def _defined(values: Any) -> np.ndarray:
    values = np.atleast_1d(np.asarray(values, dtype=float))
    return values[~np.isnan(values)]


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _interval(
    values: np.ndarray, n_resamples: int, random_state: Any
) -> tuple[float, float]:
    """Return the ends of the 95 % bootstrap interval of the mean."""
    if len(values) < 2:
        return math.nan, math.nan
    if np.ptp(values) == 0:  # the means of resamples would differ by rounding errors
        return float(values[0]), float(values[0])
    interval = bootstrap(
        (values,),
        np.mean,
        n_resamples=n_resamples,
        method="percentile",
        rng=np.random.default_rng(random_state),
    ).confidence_interval
    return float(interval.low), float(interval.high)
