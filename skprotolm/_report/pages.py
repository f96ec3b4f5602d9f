"""The page of a report, by the kind of target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skprotolm._fitted import FittedModel
from skprotolm._report.classes import class_report
from skprotolm._report.labels import label_report
from skprotolm._report.numbers import number_report
from skprotolm._report.tags import tag_report

# By `Task.kind`.
_REPORTS: dict[str, Callable[..., str]] = {
    "classes": class_report,
    "labels": label_report,
    "tags": tag_report,
    "value": number_report,
}


def report_page(
    model: FittedModel, X: Any, y: Any, title: str | None, **training: Any
) -> str:
    """Evaluate a model and return the page; `training` are the texts of the fit."""
    return _REPORTS[model.task.kind](model, X, y, title, **training)
