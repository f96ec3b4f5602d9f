"""Which kind of target the y of a classifier is."""

from __future__ import annotations

from typing import Any

import numpy as np

from skprotolm._config import FitConfig
from skprotolm._data.label_matrix import (
    as_label_matrix,
    is_label_matrix,
    label_names,
)
from skprotolm._data.targets import (
    Targets,
    encode_targets,
    refuse_labels_in_texts,
    warn_single_text_classes,
)
from skprotolm._data.texts import Texts
from skprotolm._data.weights import check_class_weight, combine_weights
from skprotolm._tasks.base import Task
from skprotolm._tasks.classification import ClassificationTask
from skprotolm._tasks.multilabel import MultilabelTask


def choose_task(
    X: Any, texts: Texts, y: Any, sample_weight: Any, config: FitConfig, name: str
) -> tuple[Task, Targets]:
    """Validate y: an indicator matrix is several labels per text.

    `name` is the name of the estimator in error messages.
    """
    if is_label_matrix(y):
        return _several_labels(texts, y, sample_weight, config, name)
    classes, targets = encode_targets(
        y, len(texts), sample_weight, config.class_weight, name
    )
    refuse_labels_in_texts(X, texts, classes, targets)
    warn_single_text_classes(classes, targets)
    return ClassificationTask(classes), targets


def refuse_label_matrix(y: Any) -> None:
    """Refuse several labels per text, which `partial_fit` cannot learn."""
    if is_label_matrix(y):
        raise ValueError(
            "partial_fit needs one class per text, got an indicator matrix as y. Pass "
            "all texts to fit; with warm_start=True it starts from the encoder of the "
            "previous fit."
        )


def _several_labels(
    texts: Texts, y: Any, sample_weight: Any, config: FitConfig, name: str
) -> tuple[Task, Targets]:
    _refuse_parameters(config, name)
    matrix = as_label_matrix(y, "y", len(texts))
    classes = label_names(y, matrix.shape[1])
    weights = combine_weights(np.zeros(len(texts)), sample_weight, None)
    rows = np.flatnonzero(weights)
    weights = weights[rows] / weights[rows].mean()
    _check_label_weights(config.class_weight, classes)
    task = MultilabelTask.of(classes, matrix[rows], weights, config.class_weight)
    values = matrix[rows][:, task.varies]
    return task, Targets(values, task.strata_of(values), weights, rows)


def _refuse_parameters(config: FitConfig, name: str) -> None:
    """Refuse what has no meaning for several labels."""
    if config.formulation != "mixture":
        raise ValueError(
            f"y has several labels per text, and formulation={config.formulation!r} of "
            f"{name} was published for one; use formulation='mixture'."
        )
    if not config.projection:
        raise ValueError(
            f"y has several labels per text, and the learned prototypes of {name} that "
            f"projection=False keeps stand for one each; use projection=True."
        )


def _check_label_weights(class_weight: Any, classes: np.ndarray) -> None:
    """Refuse weights that are no numbers, or of labels that do not exist."""
    if not isinstance(class_weight, dict):
        return
    check_class_weight(class_weight)
    unknown = [label for label in class_weight if label not in classes.tolist()]
    if unknown:
        raise ValueError(
            f"class_weight must be a dict from labels to the weight of the texts that "
            f"have them, got {unknown[:5]}; the labels are {classes.tolist()[:10]}."
        )
