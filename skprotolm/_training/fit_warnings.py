"""What the user is warned of after a fit."""

from __future__ import annotations

from typing import NoReturn

from skprotolm._runtime import warn
from skprotolm._tasks.base import LabelTask
from skprotolm._training.fit import FitResult
from skprotolm.exceptions import (
    DuplicatePrototypesWarning,
    FitInterruptedWarning,
    UnpredictedClassWarning,
)


def warn_of_result(result: FitResult) -> None:
    """Warn of weak points of a fit, or raise again the interrupt that ended it."""
    if result.is_interrupted:
        _raise_interrupt(result)
    _warn_of_coincident(result)
    _warn_of_never_predicted(result)


def _raise_interrupt(result: FitResult) -> NoReturn:
    try:
        warn(
            f"Training was interrupted after {len(result.history)} of "
            f"{result.config.max_epochs} whole epochs; the state it had reached is "
            f"kept and can be used.",
            FitInterruptedWarning,
        )
    finally:  # where warnings are errors, too
        raise KeyboardInterrupt


def _warn_of_coincident(result: FitResult) -> None:
    if result.n_coincident:
        warn(
            f"{result.n_coincident} of {len(result.model.quotes.texts)} prototypes "
            f"nearly coincide with another one of the same label, so that the model "
            f"cannot tell them apart; use fewer prototypes, or more preservation.",
            DuplicatePrototypesWarning,
        )


def _warn_of_never_predicted(result: FitResult) -> None:
    labels = result.never_predicted
    if not labels:
        return
    task = result.model.task_as(LabelTask)
    names = ", ".join(map(repr, labels[:5])) + (", …" if len(labels) > 5 else "")
    noun = task.unit_noun
    texts = f"training {noun} that is not a prototype"
    if result.config.early_stopping:
        texts = f"held-out {noun}"
    warn(
        f"{len(labels)} of {len(task.classes)} {task.strata_noun} are never predicted "
        f"for a {texts}: {names}. A {task.label_noun} with few {noun}s beside many of "
        f"others is predicted more often with class_weight='balanced'; where "
        f"{task.strata_noun} are about equal, train for more epochs.",
        UnpredictedClassWarning,
    )
