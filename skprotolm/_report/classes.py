"""The report on classes: all that its page shows, as plain lists and dicts.

Letters: n evaluated texts, M prototypes, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from skprotolm._data.texts import Texts
from skprotolm._display.formatting import shorten
from skprotolm._display.html import report_html
from skprotolm._display.map import map_coordinates
from skprotolm._explaining.explain import explain
from skprotolm._fitted import FittedModel
from skprotolm._records.views import page_record
from skprotolm._report.calibration import calibration
from skprotolm._report.doubtful_labels import find_doubtful_labels
from skprotolm._report.predictions import Predictions, labeled_predictions
from skprotolm._report.prototypes import prototype_cards

_MAX_MATRIX_CLASSES = 20  # a larger confusion matrix is not readable
_N_CONFUSIONS = 10
_N_MISTAKES = 20
_N_LISTED = 5  # prototypes per mistake
_N_NEVER_PREDICTED = 20
_N_MAP_TEXTS = 1000
# Two percent of wrong predictions are too few to find wrong labels among them.
_MEMORIZED_ACCURACY = 0.98


def class_report(
    model: FittedModel,
    X: Any,
    y: Any,
    title: str | None,
    X_train: Any = None,
    y_train: Any = None,
) -> str:
    """Evaluate a classifier and return the page.

    Raises
    ------
    ValueError
        If y does not match X, or the training texts are not usable.
    """
    evaluated = _encoded(model, X, y, "X", "y")
    training = None
    if X_train is not None:
        training = _encoded(model, X_train, y_train, "X_train", "y_train")
    report = build_class_report(
        model,
        labeled_predictions(model, *evaluated),
        training and labeled_predictions(model, *training),
    )
    return report_html("class_report.html", report, title=title)


def _encoded(
    model: FittedModel, X: Any, y: Any, X_name: str, y_name: str
) -> tuple[Texts, np.ndarray]:
    """Validate texts and their labels."""
    texts = model.texts_of(X, X_name)
    return texts, model.task.encode(y, y_name, len(texts))


def build_class_report(
    model: FittedModel, evaluated: Predictions, training: Predictions | None
) -> dict[str, Any]:
    """Return the values of the report's template.

    Parameters
    ----------
    model : FittedModel
    evaluated : Predictions
        The texts for accuracy, calibration and mistakes.
    training : Predictions or None
        The training texts, which serve as reference texts: the map, the nearest texts
        of prototypes and the doubtful labels show these. The evaluated texts replace
        them if they are None.
    """
    reference = evaluated if training is None else training
    listed = prototype_cards(model, evaluated, reference)
    doubtful, n_doubtful = find_doubtful_labels(reference)
    training_accuracy = None if training is None else float(training.is_correct.mean())
    return {
        "labels": model.task.strata,
        "formulation": model.layer.formulation,
        "reference": "texts of this report" if training is None else "training texts",
        "reference_argument": "X" if training is None else "X_train",
        "n_reference": len(reference.texts),
        "n_training": None if training is None else len(training.texts),
        "summary": _summary(model, evaluated, reference),
        "classes": class_figures(model, evaluated.codes, evaluated.predicted),
        **never_predicted(evaluated.codes, evaluated.predicted),
        "confusion": _confusion(evaluated, len(model.task.strata)),
        "calibration": calibration(
            evaluated.is_correct, evaluated.probabilities.max(axis=1)
        ),
        "map": _map(model, reference, listed),
        **listed,
        "mistakes": _mistakes(model, evaluated),
        "doubtful": doubtful,
        "n_doubtful": n_doubtful,
        "training_accuracy": training_accuracy,
        # A model that memorized its training labels supports the wrong ones as well.
        "memorized": (training_accuracy or 0.0) >= _MEMORIZED_ACCURACY,
    }


def _summary(
    model: FittedModel, evaluated: Predictions, reference: Predictions
) -> dict[str, Any]:
    """Return accuracy with its interval, the majority baseline, and counts."""
    n, n_correct = len(evaluated.texts), int(evaluated.is_correct.sum())
    interval = binomtest(n_correct, n).proportion_ci(method="wilson")
    counts, reference_counts = (
        np.bincount(predictions.codes, minlength=len(model.task.strata))
        for predictions in (evaluated, reference)
    )
    # Among equally frequent classes, the one with the higher accuracy.
    majority = np.lexsort((counts, reference_counts))[-1]
    return {
        "n": n,
        "n_prototypes": len(model.layer.values),
        "n_edits": len(model.edits),
        "n_further": model.further[0],
        "n_new_classes": model.further[1],
        "n_unread": evaluated.n_unread,
        "accuracy": n_correct / n,
        "low": float(interval.low),
        "high": float(interval.high),
        "majority_class": model.task.strata[majority],
        "majority_accuracy": float((evaluated.codes == majority).mean()),
    }


def class_figures(
    model: FittedModel, codes: np.ndarray, predicted: np.ndarray
) -> list[dict[str, Any]]:
    """Return counts, recall and precision per class; None where they are 0 / 0."""
    C = len(model.task.strata)
    precision, recall, _, support = precision_recall_fscore_support(
        codes, predicted, labels=np.arange(C), zero_division=np.nan
    )
    n_prototypes = np.bincount(model.layer.values.numpy(), minlength=C)
    return [
        {
            "label": label,
            "n": int(support[code]),
            "n_prototypes": int(n_prototypes[code]),
            "recall": None if np.isnan(recall[code]) else float(recall[code]),
            "precision": None if np.isnan(precision[code]) else float(precision[code]),
        }
        for code, label in enumerate(model.task.strata)
    ]


def never_predicted(codes: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """Return the classes that are never predicted, the largest first."""
    classes, counts = np.unique(codes, return_counts=True)
    missing = np.flatnonzero(~np.isin(classes, predicted))
    largest_first = missing[np.argsort(-counts[missing], kind="stable")]
    return {
        "never_predicted": [
            {"code": int(classes[i]), "n": int(counts[i])}
            for i in largest_first[:_N_NEVER_PREDICTED]
        ],
        "n_never_predicted": len(missing),
    }


def _confusion(evaluated: Predictions, n_classes: int) -> dict[str, Any]:
    """Return the confusion matrix of few classes, and the most frequent confusions."""
    true, predicted = evaluated.codes, evaluated.predicted
    matrix = None
    if n_classes <= _MAX_MATRIX_CLASSES:
        labels = np.arange(n_classes)
        matrix = confusion_matrix(true, predicted, labels=labels).tolist()
    errors = np.column_stack([true, predicted])[~evaluated.is_correct]
    found, counts = np.unique(errors, axis=0, return_counts=True)
    largest = np.argsort(-counts, kind="stable")[:_N_CONFUSIONS]
    pairs = [
        {"true": int(i), "predicted": int(j), "n": int(n)}
        for (i, j), n in zip(found[largest], counts[largest], strict=True)
    ]
    return {"matrix": matrix, "pairs": pairs}


def _map(
    model: FittedModel,
    reference: Predictions,
    listed: dict[str, list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """Return coordinates of listed prototypes and a sample of texts, from 0 to 1."""
    layer = model.layer
    numbers = sorted(record["index"] for some in listed.values() for record in some)
    n = len(reference.texts)
    sample = np.random.RandomState(0).permutation(n)[:_N_MAP_TEXTS]
    prototype_vectors = layer.positions.numpy()[numbers]
    xy = map_coordinates(np.concatenate([prototype_vectors, reference.vectors[sample]]))
    low, high = xy.min(axis=0), xy.max(axis=0)
    # One scale for both axes preserves the ratios of distances.
    xy = (xy - low) / max((high - low).max(), 1e-9)
    codes = np.append(layer.values.numpy()[numbers], reference.codes[sample])
    n_texts = len(sample)
    names = [*(model.quotes.names[j] for j in numbers), *[None] * n_texts]
    texts = [
        *(model.quotes.texts[j] for j in numbers),
        *(reference.texts[row] for row in sample.tolist()),
    ]
    return [
        {
            "x": round(float(x), 4),
            "y": round(float(y), 4),
            "code": int(code),
            "prototype": number,
            "name": name,
            "text": shorten(text),
        }
        for (x, y), code, number, name, text in zip(
            xy, codes, [*numbers, *[None] * n_texts], names, texts, strict=True
        )
    ]


def _mistakes(model: FittedModel, evaluated: Predictions) -> list[dict[str, Any]]:
    """Explain the mistakes with the lowest probabilities of the true class."""
    mistakes = np.flatnonzero(~evaluated.is_correct)
    if not len(mistakes):
        return []
    n_mistakes = np.bincount(
        evaluated.top_prototypes[mistakes], minlength=len(model.layer.values)
    )
    p_true = evaluated.probabilities[mistakes, evaluated.codes[mistakes]]
    rows = mistakes[np.argsort(p_true, kind="stable")][:_N_MISTAKES].tolist()
    texts = [evaluated.texts[row] for row in rows]
    explanations = explain(model, texts, top_k=_N_LISTED, token_method="auto")
    top_prototypes = evaluated.top_prototypes[rows].tolist()
    return [
        {
            **page_record(explanation, [top]),
            "row": row,
            "predicted": int(evaluated.predicted[row]),
            "true": int(evaluated.codes[row]),
            "top_prototype": top,
            "top_name": model.quotes.names[top],
            "n_mistakes": int(n_mistakes[top]),
        }
        for explanation, row, top in zip(
            explanations, rows, top_prototypes, strict=True
        )
    ]
