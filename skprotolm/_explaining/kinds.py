"""What explanations hold of predictions and prototypes, by the kind of target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skprotolm._fitted import FittedModel
from skprotolm._network.prototypes import Attribution
from skprotolm._tasks.classification import ClassificationTask
from skprotolm._tasks.multilabel import MultilabelTask


def class_fields(
    model: FittedModel, attribution: Attribution, rows: np.ndarray
) -> list[dict[str, Any]]:
    """Return predictions, targets and log-odds; `rows` are those of X.

    Raises
    ------
    ValueError
        If a class is to be compared with itself.
    """
    task = model.task_as(ClassificationTask)
    unit, outputs = model.layer.unit, attribution.outputs
    index, against = attribution.target.numpy(), attribution.against
    rivals = None if against is None else against.numpy()
    described = task.describe(outputs.numpy(), index, rivals)
    for row, fields in zip(rows.tolist(), described, strict=True):
        if fields["against"] == fields["target"]:
            where = "row" if unit.quoted == "text" else "explained word"
            raise ValueError(
                f"against must differ from the explained {unit.group}, which is "
                f"{fields['target']!r} in {where} {row}; pass target, or other "
                f"{unit.quoted}s."
            )
    scores = outputs.gather(1, attribution.target[:, None])[:, 0]
    if against is not None:
        scores = scores - outputs.gather(1, against[:, None])[:, 0]
    return [
        {
            **fields,
            "space": unit.name,
            "score": None if unit.has_token_sums else float(scores[b]),
            "log_odds": float(attribution.explained[b]),
        }
        for b, fields in enumerate(described)
    ]


def word_fields(
    model: FittedModel, attribution: Attribution, rows: np.ndarray
) -> list[dict[str, Any]]:
    """Return what `class_fields` returns; the estimator knows the sentences."""
    described = class_fields(model, attribution, rows)
    return [{**fields, "sentence": 0} for fields in described]


def value_fields(
    model: FittedModel, attribution: Attribution, rows: np.ndarray
) -> list[dict[str, Any]]:
    """Return predicted numbers."""
    return [{"prediction": number} for number in attribution.explained.tolist()]


def label_fields(
    model: FittedModel, attribution: Attribution, rows: np.ndarray
) -> list[dict[str, Any]]:
    """Return predictions, targets and log-odds of several labels."""
    task = model.task_as(MultilabelTask)
    described = task.describe(attribution.outputs.numpy(), attribution.target.numpy())
    return [
        {
            **fields,
            "log_odds": float(attribution.explained[b]),
        }
        for b, fields in enumerate(described)
    ]


# By `Task.kind`.
_FIELDS: dict[str, Callable[..., list[dict[str, Any]]]] = {
    "classes": class_fields,
    "labels": label_fields,
    "tags": word_fields,
    "value": value_fields,
}


def kind_fields(
    model: FittedModel, attribution: Attribution, rows: np.ndarray
) -> list[dict[str, Any]]:
    """Return the fields of each text of a batch that only its kind has."""
    return _FIELDS[model.task.kind](model, attribution, rows)
