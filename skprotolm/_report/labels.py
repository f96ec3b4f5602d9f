"""All that the page of a multilabel report shows, as plain lists and dicts.

Letters: n evaluated texts, M prototypes, L labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_recall_fscore_support,
)
from torch import Tensor

from skprotolm._data.texts import Texts
from skprotolm._display.formatting import shorten
from skprotolm._explaining.explain import explain
from skprotolm._fitted import FittedModel
from skprotolm._records.views import page_record

_N_BINS = 15
_N_ERRORS = 20  # labels of texts that are explained
_N_LISTED = 3  # prototypes of each side per explained label
_N_PROTOTYPES = 60


def build_label_report(
    model: FittedModel, texts: Texts, true: np.ndarray
) -> dict[str, Any]:
    """Return the values of the template.

    Parameters
    ----------
    model : FittedModel
    texts : list of str or of (str, str)
        The evaluated texts.
    true : ndarray of shape (n, L), bool
        Which labels they have.
    """
    task: Any = model.task

    def read(s: Tensor) -> tuple[Tensor, Tensor]:
        scores = model.layer(s)
        return scores.outputs, scores.similarities.argmax(dim=1)

    outputs, nearest = (t.numpy() for t in model.read(model.tokenize(texts), read))
    probabilities, predicted = task.probabilities(outputs), task.decode(outputs)
    return {
        "summary": _summary(model, true, probabilities, predicted),
        "labels": _label_figures(model, true, probabilities, predicted),
        "bins": calibration_bins(true, probabilities),
        "errors": _errors(model, texts, true, probabilities),
        "prototypes": _prototypes(model, true, nearest),
    }


def _summary(
    model: FittedModel, true: np.ndarray, probabilities: np.ndarray, predicted: Any
) -> dict[str, Any]:
    """Return the measures of all labels together."""
    gaps = calibration_bins(true, probabilities)
    error = sum(b["n"] * abs(b["frequency"] - b["probability"]) for b in gaps)
    averages = {
        f"{average}_f1": float(
            f1_score(true, predicted, average=average, zero_division=0)
        )
        for average in ("micro", "macro")
    }
    precision = None
    if true.any():
        score = average_precision_score(true, probabilities, average="micro")
        precision = float(score)
    return {
        "n": len(true),
        "n_labels": true.shape[1],
        "n_prototypes": len(model.layer.values),
        "n_edits": len(model.edits),
        **averages,
        "average_precision": precision,
        "subset_accuracy": float((true == predicted).all(axis=1).mean()),
        "per_text": float(true.sum(axis=1).mean()),
        "predicted_per_text": float(predicted.sum(axis=1).mean()),
        "calibration_error": error / true.size,
    }


def _label_figures(
    model: FittedModel, true: np.ndarray, probabilities: np.ndarray, predicted: Any
) -> list[dict[str, Any]]:
    """Return counts, precision, recall, F1 and calibration per label.

    Values are None where they are 0 / 0.
    """
    task: Any = model.task
    with_label = task.completed(model.layer.values.numpy(), task.constants == 1)
    figures = precision_recall_fscore_support(true, predicted, zero_division=np.nan)
    return [
        {
            "label": label,
            "n": int(n),
            "n_predicted": int(predicted[:, i].sum()),
            "n_prototypes": int(with_label[:, i].sum()),
            **{
                name: None if np.isnan(value) else float(value)
                for name, value in zip(
                    ("precision", "recall", "f1"), values, strict=True
                )
            },
            "mean_probability": float(probabilities[:, i].mean()),
            "frequency": float(true[:, i].mean()),
            "calibration_error": _calibration_error(true[:, i], probabilities[:, i]),
        }
        for i, (label, n, *values) in enumerate(
            zip(task.classes.tolist(), figures[3], *figures[:3], strict=True)
        )
    ]


def calibration_bins(
    true: np.ndarray, probabilities: np.ndarray
) -> list[dict[str, Any]]:
    """Return frequency and mean probability of labels by their probability."""
    flat, is_true = probabilities.ravel(), true.ravel()
    numbers = np.minimum((flat * _N_BINS).astype(int), _N_BINS - 1)
    counts = np.bincount(numbers, minlength=_N_BINS)
    sums = np.bincount(numbers, flat, _N_BINS), np.bincount(numbers, is_true, _N_BINS)
    return [
        {
            "low": b / _N_BINS,
            "high": (b + 1) / _N_BINS,
            "n": int(counts[b]),
            "probability": float(sums[0][b] / counts[b]),
            "frequency": float(sums[1][b] / counts[b]),
        }
        for b in np.flatnonzero(counts).tolist()
    ]


def _calibration_error(true: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the expected calibration error (Guo et al. 2017)."""
    bins = calibration_bins(true, probabilities)
    gaps = [b["n"] * abs(b["frequency"] - b["probability"]) for b in bins]
    return float(sum(gaps) / len(true))


def _errors(
    model: FittedModel, texts: Texts, true: np.ndarray, probabilities: np.ndarray
) -> list[dict[str, Any]]:
    """Explain the labels that are most confidently wrong, one per text."""
    task: Any = model.task
    p_wrong = np.where(true, 1 - probabilities, probabilities)
    p_wrong[:, ~task.varies] = 0.0  # which have no explanation
    worst = p_wrong.argmax(axis=1)
    most = p_wrong[np.arange(len(true)), worst]
    rows = np.argsort(-most, kind="stable")[:_N_ERRORS]
    rows = rows[most[rows] >= 0.5]
    if not rows.size:
        return []
    listed: Any = [texts[row] for row in rows.tolist()]
    index = (np.cumsum(task.varies) - 1)[worst[rows]]
    explanations = explain(model, listed, index, None, _N_LISTED, "auto")
    return [
        {
            **page_record(e, e.order[:1].tolist()),
            "row": row,
            "is_true": bool(true[row, worst[row]]),
            "true": tuple(task.classes[true[row]].tolist()),
        }
        for e, row in zip(explanations, rows.tolist(), strict=True)
    ]


def _prototypes(
    model: FittedModel, true: np.ndarray, nearest: np.ndarray
) -> list[dict[str, Any]]:
    """Return the prototypes that are the nearest of most texts, then by usage.

    Purity is left out: it refers to the rarest label alone.

    Parameters
    ----------
    model : FittedModel
    true : ndarray of shape (n, L), bool
    nearest : ndarray of shape (n,)
        The nearest prototype of each text.
    """
    task: Any = model.task
    records, usages = model.prototypes.to_dict(), model.prototypes.usages
    labels = task.completed(model.layer.values.numpy(), task.constants == 1)
    counts = np.bincount(nearest, minlength=len(records))
    sums = np.bincount(nearest, overlaps(true, labels[nearest]), len(records))
    order = np.lexsort((-usages, -counts))[:_N_PROTOTYPES]
    return [
        {
            **records[j],
            "text": shorten(records[j]["text"], 300),
            "n_nearest": int(counts[j]),
            "overlap": float(sums[j] / counts[j]) if counts[j] else None,
        }
        for j in order.tolist()
    ]


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the Jaccard index of the label sets in each row, (n,).

    It is the number of labels in both, divided by that of labels in either, and 1 for
    two empty sets.
    """
    in_either = (one | other).sum(axis=1)
    return np.where(in_either, (one & other).sum(axis=1) / np.maximum(in_either, 1), 1)
