"""The report on numbers: all that its page shows, as plain lists and dicts.

Letters: n evaluated texts, M prototypes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from skprotolm._data.numbers import as_numbers
from skprotolm._data.texts import Texts
from skprotolm._display.html import report_html
from skprotolm._explaining.explain import explain
from skprotolm._fitted import FittedModel
from skprotolm._records.views import page_record
from skprotolm._report.prototypes import most_used_prototypes
from skprotolm._tasks.regression import RegressionTask
from skprotolm._training.novelty_limit import conformal_rank

_MAX_POINTS = 1000
_N_ERRORS = 20  # texts that are explained
_N_LISTED = 5  # prototypes per explained text
_LEVELS = (0.5, 0.8, 0.9, 0.95)  # of the intervals


def number_report(model: FittedModel, X: Any, y: Any, title: str | None) -> str:
    """Evaluate a regressor and return the page.

    Raises
    ------
    ValueError
        If y is not one finite number per text.
    """
    texts = model.texts_of(X)
    report = build_number_report(model, texts, as_numbers(y, "y", len(texts)))
    return report_html("number_report.html", report, title=title)


def build_number_report(
    model: FittedModel, texts: Texts, true: np.ndarray
) -> dict[str, Any]:
    """Return the values of the template.

    Parameters
    ----------
    model : FittedModel
    texts : list of str or of (str, str)
        The evaluated texts.
    true : ndarray of shape (n,)
        Their numbers.
    """
    predicted = model.task.decode(model.outputs(texts))
    errors = predicted - true
    worst = np.argsort(-np.abs(errors), kind="stable")[:_N_ERRORS]
    explained = [texts[row] for row in worst.tolist()]
    explanations = explain(model, explained, top_k=_N_LISTED, token_method="auto")
    return {
        "decimals": explanations[0].decimals,
        "summary": _summary(model, true, predicted),
        "points": _points(true, predicted),
        "ranges": _ranges(model, true, errors),
        "intervals": _intervals(errors),
        "errors": [
            {
                **page_record(e, e.order[:1].tolist()),
                "row": row,
                "true": float(true[row]),
                "error": float(errors[row]),
            }
            for e, row in zip(explanations, worst.tolist(), strict=True)
        ],
        "prototypes": most_used_prototypes(model),
    }


def _summary(
    model: FittedModel, true: np.ndarray, predicted: np.ndarray
) -> dict[str, Any]:
    """Return the errors, beside those of the mean of the training values."""
    task = model.task_as(RegressionTask)
    mean = np.full(len(true), task.center)
    return {
        "n": len(true),
        "n_prototypes": len(model.layer.values),
        "n_edits": len(model.edits),
        "r2": float(r2_score(true, predicted)) if np.ptp(true) > 0 else None,
        "rmse": float(root_mean_squared_error(true, predicted)),
        "mae": float(mean_absolute_error(true, predicted)),
        "bias": float(np.mean(predicted - true)),
        "mean": float(task.center),
        "mean_rmse": float(root_mean_squared_error(true, mean)),
        "mean_mae": float(mean_absolute_error(true, mean)),
    }


def _points(true: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """Return predicted against true numbers from 0 to 1, of a sample, and the axis."""
    rows = np.random.RandomState(0).permutation(len(true))[:_MAX_POINTS]
    both = np.concatenate([true, predicted])
    low, high = float(both.min()), float(both.max())
    width = (high - low) or 1.0
    return {
        "low": low,
        "high": high,
        "n": len(rows),
        "pairs": [
            [round((t - low) / width, 3), round((p - low) / width, 3)]
            for t, p in zip(true[rows].tolist(), predicted[rows].tolist(), strict=True)
        ],
    }


def _ranges(
    model: FittedModel, true: np.ndarray, errors: np.ndarray
) -> list[dict[str, Any]]:
    """Return the errors by range of the true number, where there are texts."""
    task = model.task_as(RegressionTask)
    strata = task.strata_of(true)
    prototypes = np.bincount(
        task.strata_of(model.layer.values.numpy()), minlength=len(task.strata)
    )
    return [
        {
            "name": name,
            "n": int(np.sum(strata == i)),
            "n_prototypes": int(prototypes[i]),
            "bias": float(errors[strata == i].mean()),
            "mae": float(np.abs(errors[strata == i]).mean()),
        }
        for i, name in enumerate(task.strata)
        if np.any(strata == i)
    ]


def _intervals(errors: np.ndarray) -> list[dict[str, float]]:
    """Return how far predictions are off for most texts.

    The half-width of each level is a conformal quantile of the absolute errors, which
    the error of another text of the same distribution exceeds with a probability of at
    most 1 − level (split conformal prediction; Vovk, Gammerman and Shafer 2005).
    """
    sizes = np.sort(np.abs(errors))
    ranks = {level: conformal_rank(len(sizes), 1 - level) for level in _LEVELS}
    return [
        {"level": level, "width": float(sizes[rank - 1])}
        for level, rank in ranks.items()
        if rank <= len(sizes)
    ]
