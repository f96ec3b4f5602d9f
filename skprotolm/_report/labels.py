"""The report on several labels per text: what its page shows, as plain lists and dicts.

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
from skprotolm._display.html import report_html
from skprotolm._explaining.explain import explain
from skprotolm._fitted import FittedModel
from skprotolm._records.views import page_record
from skprotolm._report.calibration import calibration
from skprotolm._report.prototypes import listed_prototypes
from skprotolm._tasks.multilabel import MultilabelTask

_N_ERRORS = 20  # labels of texts that are explained
_N_LISTED = 3  # prototypes of each side per explained label


def label_report(
    model: FittedModel,
    X: Any,
    y: Any,
    title: str | None,
    X_train: Any = None,
    y_train: Any = None,
) -> str:
    """Evaluate a classifier of several labels per text and return the page.

    Raises
    ------
    ValueError
        If y does not match X, or there are training texts, which it does not use.
    """
    if X_train is not None:
        raise ValueError(
            "X_train and y_train serve the map and the label audit, which a report "
            "on several labels per text does not have; pass X and y alone."
        )
    texts, task = model.texts_of(X), model.task_as(MultilabelTask)
    true = task.indicators(y, "y", len(texts))
    report = build_label_report(model, texts, true)
    return report_html("label_report.html", report, title=title)


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
    task = model.task_as(MultilabelTask)

    def read(s: Tensor) -> tuple[Tensor, Tensor]:
        scores = model.layer(s)
        return scores.outputs, scores.similarities.argmax(dim=1)

    outputs, nearest = (t.numpy() for t in model.read(model.tokenize(texts), read))
    probabilities, predicted = task.probabilities(outputs), task.decode(outputs)
    return {
        "summary": _summary(model, true, probabilities, predicted),
        "labels": _label_figures(model, true, probabilities, predicted),
        "calibration": calibration(true.ravel(), probabilities.ravel()),
        "errors": _errors(model, texts, true, probabilities),
        "prototypes": _prototypes(model, true, nearest),
    }


def _summary(
    model: FittedModel, true: np.ndarray, probabilities: np.ndarray, predicted: Any
) -> dict[str, Any]:
    """Return the measures of all labels together."""
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
    }


def _label_figures(
    model: FittedModel, true: np.ndarray, probabilities: np.ndarray, predicted: Any
) -> list[dict[str, Any]]:
    """Return counts, precision, recall, F1 and calibration per label.

    Values are None where they are 0 / 0.
    """
    task = model.task_as(MultilabelTask)
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
            "calibration_error": calibration(true[:, i], probabilities[:, i])["error"],
        }
        for i, (label, n, *values) in enumerate(
            zip(task.classes.tolist(), figures[3], *figures[:3], strict=True)
        )
    ]


def _errors(
    model: FittedModel, texts: Texts, true: np.ndarray, probabilities: np.ndarray
) -> list[dict[str, Any]]:
    """Explain the labels that are most confidently wrong, one per text."""
    task = model.task_as(MultilabelTask)
    p_wrong = np.where(true, 1 - probabilities, probabilities)
    p_wrong[:, ~task.varies] = 0.0  # which have no explanation
    worst = p_wrong.argmax(axis=1)
    most = p_wrong[np.arange(len(true)), worst]
    rows = np.argsort(-most, kind="stable")[:_N_ERRORS]
    rows = rows[most[rows] >= 0.5]
    if not rows.size:
        return []
    listed = [texts[row] for row in rows.tolist()]
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
    task = model.task_as(MultilabelTask)
    labels = task.completed(model.layer.values.numpy(), task.constants == 1)
    M = len(labels)
    counts = np.bincount(nearest, minlength=M)
    sums = np.bincount(nearest, overlaps(true, labels[nearest]), M)
    order = np.lexsort((-model.prototypes.usages, -counts))
    listed = listed_prototypes(model, order)
    for record in listed:
        j = record["index"]
        overlap = float(sums[j] / counts[j]) if counts[j] else None
        record.update(n_nearest=int(counts[j]), overlap=overlap)
    return listed


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the Jaccard index of the label sets in each row, (n,).

    It is the number of labels in both, divided by that of labels in either, and 1 for
    two empty sets.
    """
    in_either = (one | other).sum(axis=1)
    return np.where(in_either, (one & other).sum(axis=1) / np.maximum(in_either, 1), 1)
