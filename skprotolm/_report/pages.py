"""The page of a classifier's report, by what its targets are."""

from __future__ import annotations

from typing import Any

from skprotolm._display.html import label_report_html, report_html
from skprotolm._fitted import FittedModel
from skprotolm._report.build import build_report
from skprotolm._report.labels import build_label_report
from skprotolm._report.predictions import labeled_predictions


def report_page(
    model: FittedModel, X: Any, y: Any, X_train: Any, y_train: Any, title: str | None
) -> str:
    """Evaluate a model and return the page.

    Raises
    ------
    ValueError
        If y does not match X, or the training texts are not usable.
    """
    if (X_train is None) != (y_train is None):
        raise ValueError("X_train and y_train go together; pass both, or neither.")
    texts = model.texts_of(X)
    task: Any = model.task
    if model.layer.unit.name == "label":
        if X_train is not None:
            raise ValueError(
                "X_train and y_train serve the map and the label audit, which a report "
                "on several labels per text does not have; pass X and y alone."
            )
        true = task.indicators(y, "y", len(texts))
        return label_report_html(build_label_report(model, texts, true), title=title)
    values = task.encode(y, "y", len(texts))
    training = None
    if X_train is not None:
        train_texts = model.texts_of(X_train, name="X_train")
        train_values = task.encode(y_train, "y_train", len(train_texts))
        training = labeled_predictions(model, train_texts, train_values)
    evaluated = labeled_predictions(model, texts, values)
    return report_html(build_report(model, evaluated, training), title=title)
